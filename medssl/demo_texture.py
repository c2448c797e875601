"""Invented radiographs of four kinds that differ in texture and in nothing else."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

CLASSES = ("upright", "falling", "level", "rising")  # how the streaks run, by 45 degrees

# What differs from image to image, within every class alike.
_SPREAD = 0.15  # of the direction, radians, standard deviation
_STRENGTH = (0.2, 0.4)  # of the texture, share of the full scale
_PERIOD = (12.0, 26.0)  # px
_ELONGATION = (1.8, 4.0)  # length of a spot over its width
_BANDWIDTH = (0.3, 0.6)  # octaves, standard deviation
_SHAPES = (0.13, 0.39)  # how far a shape is from grey, share of the full scale


@dataclass(frozen=True, slots=True)
class Look:
    """What all images of one patient share and what says nothing about the class.

    Attributes:
        rows: Height, px.
        columns: Width, px.
        brightness: Level of the darkest parts, share of the full scale.
        contrast: Span from the darkest to the brightest parts, share of the full scale.
        gamma: Exponent of the tone curve.
    """

    rows: int
    columns: int
    brightness: float
    contrast: float
    gamma: float


def draw_look(random: np.random.Generator) -> Look:
    """Draw the look of one patient's images."""
    return Look(
        rows=int(random.integers(96, 129)),
        columns=int(random.integers(96, 129)),
        brightness=random.uniform(0.0, 0.05),
        contrast=random.uniform(0.7, 0.95),
        gamma=random.uniform(0.7, 1.4),
    )


def draw_image(random: np.random.Generator, kind: str, look: Look) -> Plane:
    """Draw one image, `[rows, columns]`, 0 to 1.

    The classes are one kind of random texture, turned: grey values and the power at every scale
    are alike, so neither tells the class. How coarse, how streaky and how strong it is differs from
    image to image, and so does the anatomy, which is stronger than it: a few labelled images leave
    much to be mistaken for the class.

    Args:
        random: Source of everything drawn.
        kind: One of `CLASSES`.
        look: Of the patient.
    """
    shape = (look.rows, look.columns)
    turn = CLASSES.index(kind) * np.pi / len(CLASSES) + random.normal(0.0, _SPREAD)
    texture = random.uniform(*_STRENGTH) * _streaks(random, shape, turn)
    level = (_anatomy(random, shape) + texture).clip(0.0, 1.0) ** look.gamma
    noise = random.normal(0.0, 0.01, shape)
    image: Plane = look.brightness + look.contrast * level + noise
    return image.clip(0.0, 1.0)


def _streaks(random: np.random.Generator, shape: tuple[int, int], turn: float) -> Plane:
    """Return band-passed noise, its histogram uniform between -1 and 1.

    Args:
        random: Source of everything drawn.
        shape: Rows and columns.
        turn: Angle from the vertical to the streaks, radians.
    """
    period, stretch = random.uniform(*_PERIOD), np.sqrt(random.uniform(*_ELONGATION))
    rows, columns = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    along = (np.cos(turn) * rows + np.sin(turn) * columns) * stretch
    across = (np.cos(turn) * columns - np.sin(turn) * rows) / stretch
    octaves = np.log2(np.maximum(np.hypot(along, across), 1e-6) * period)
    passed = np.exp(-0.5 * (octaves / random.uniform(*_BANDWIDTH)) ** 2)
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=shape)) * passed).real
    ranks = field.ravel().argsort().argsort().reshape(shape)
    uniform: Plane = 2.0 * ranks / (ranks.size - 1) - 1.0
    return uniform


def _anatomy(random: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return soft shapes at random places, mid-grey on average."""
    rows, columns = np.meshgrid(*(np.linspace(-1.0, 1.0, size) for size in shape), indexing="ij")
    shapes: Plane = np.full(shape, 0.5)
    for _ in range(random.integers(4, 9)):
        y, x = random.uniform(-1.0, 1.0, 2)
        height, width = random.uniform(0.15, 0.7, 2)
        turn = random.uniform(0.0, np.pi)
        down = np.cos(turn) * (rows - y) + np.sin(turn) * (columns - x)
        across = np.cos(turn) * (columns - x) - np.sin(turn) * (rows - y)
        blob = np.exp(-((down / height) ** 2) - (across / width) ** 2)
        shapes += random.uniform(*_SHAPES) * random.choice((-1.0, 1.0)) * blob
    return shapes.clip(0.2, 0.8)

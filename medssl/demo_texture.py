"""Invented radiographs of four kinds that differ in texture and in nothing else."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

CLASSES = ("upright", "falling", "level", "rising")  # how the streaks run, by 45 degrees

_ELONGATION = 3.0  # length of a spot over its width
_BANDWIDTH = 0.4  # octaves, standard deviation
_SPREAD = 0.1  # of the direction within a class, radians


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

    The classes are one random texture, turned: grey values and the power at every scale are the
    same, so neither tells the class.

    Args:
        random: Source of everything drawn.
        kind: One of `CLASSES`.
        look: Of the patient.
    """
    shape = (look.rows, look.columns)
    turn = CLASSES.index(kind) * np.pi / len(CLASSES) + random.normal(0.0, _SPREAD)
    texture = random.uniform(0.35, 0.5) * _streaks(random, shape, turn)
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
    period = random.uniform(9.0, 12.0)  # px
    rows, columns = np.meshgrid(*(np.fft.fftfreq(size) for size in shape), indexing="ij")
    along = (np.cos(turn) * rows + np.sin(turn) * columns) * np.sqrt(_ELONGATION)
    across = (np.cos(turn) * columns - np.sin(turn) * rows) / np.sqrt(_ELONGATION)
    octaves = np.log2(np.maximum(np.hypot(along, across), 1e-6) * period)
    passed = np.exp(-0.5 * (octaves / _BANDWIDTH) ** 2)
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
        shapes += random.uniform(0.1, 0.3) * random.choice((-1.0, 1.0)) * blob
    return shapes.clip(0.2, 0.8)

"""Masked pixels written out loop by loop, for comparison only."""

import itertools
import math
from typing import Any

Patches = list[list[list[float]]]


def patchify_by_hand(images: Any, patch_size: tuple[int, ...]) -> Patches:
    """Cut `[batch, channels, *sides]`, nested lists, pixel by pixel."""
    result = []
    for image in images:
        sides = _sides(image[0])
        grid = [range(side // patch) for side, patch in zip(sides, patch_size, strict=True)]
        patches = []
        for place in itertools.product(*grid):
            values = []
            for offset in itertools.product(*map(range, patch_size)):
                pixel = [p * size + o for p, size, o in zip(place, patch_size, offset, strict=True)]
                values += [_at(channel, pixel) for channel in image]
            patches.append(values)
        result.append(patches)
    return result


def normalise_by_hand(patches: Patches, eps: float = 1e-6) -> Patches:
    def normalised(values: list[float]) -> list[float]:
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        return [(value - mean) / math.sqrt(variance + eps) for value in values]

    return [[normalised(values) for values in sample] for sample in patches]


def masked_loss_by_hand(
    prediction: Patches, target: Patches, hidden: list[list[bool]], distance: str
) -> float:
    errors = []
    for guess, truth, flags in zip(prediction, target, hidden, strict=True):
        for guessed, true, is_hidden in zip(guess, truth, flags, strict=True):
            if is_hidden:
                gaps = [abs(a - b) for a, b in zip(guessed, true, strict=True)]
                errors += [gap**2 if distance == "squared" else gap for gap in gaps]
    return sum(errors) / len(errors) if errors else 0.0


def _sides(channel: Any) -> list[int]:
    return [len(channel), *_sides(channel[0])] if isinstance(channel, list) else []


def _at(channel: Any, pixel: list[int]) -> float:
    for number in pixel:
        channel = channel[number]
    return float(channel)

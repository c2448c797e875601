"""Values that change over a run, as functions of its progress (0 to 1)."""

import math


def cosine_ramp(progress: float, *, start: float, end: float) -> float:
    """Go from `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(progress: float, *, warmup: float, floor: float = 0.0) -> float:
    """Factor on the base learning rate: linear to 1 during `warmup`, then cosine to `floor`.

    Args:
        progress: Completed part of the run, 0 to 1.
        warmup: Part of the run, 0 to below 1.
        floor: Value at the end.

    Source:
        Warm-up: Goyal et al., "Accurate, large minibatch SGD", arXiv:1706.02677, section 2.2.
        Cosine without restarts: Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv:1608.03983.
    """
    if progress < warmup:
        return progress / warmup
    return cosine_ramp((progress - warmup) / (1 - warmup), start=1.0, end=floor)


def linear_ramp(progress: float, *, start: float, end: float, until: float) -> float:
    """Go straight from `start` to `end`, which is reached at `until`, 0 to 1, and stays."""
    return end if progress >= until else start + (end - start) * progress / until

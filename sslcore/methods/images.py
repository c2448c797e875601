"""What the pretext methods take: views that are square images."""

from typing import Any

from torch import Tensor

from sslcore.errors import ShapeError


def require_square_images(view: Any, *, method: str) -> None:
    """Raise `ShapeError` unless `view` is `[batch, channels, side, side]`."""
    shape = tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__
    if not isinstance(view, Tensor) or view.ndim != 4 or view.shape[2] != view.shape[3]:
        raise ShapeError(
            f"{method} takes images [batch, channels, side, side], got {shape};"
            " choose another method"
        )

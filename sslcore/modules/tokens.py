"""What a method may ask of an encoder that cuts its input into patches: a transformer."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from sslcore.errors import ConfigError, ShapeError


class Tokens(NamedTuple):
    """What a transformer makes of a view.

    Attributes:
        pooled: The feature of the whole view, as `forward` returns it, `[batch, dim]`.
        patches: One token per patch, row by row (and slice by slice), `[batch, count, dim]`; only
            the visible ones if some were hidden.
        registers: Tokens without a place, `[batch, registers, dim]`; often none.
        class_token: `[batch, dim]`, whether or not it is the feature; None without one.
    """

    pooled: Tensor
    patches: Tensor
    registers: Tensor
    class_token: Tensor | None = None


class TokenEncoder(nn.Module, ABC):
    """An encoder that cuts a view into patches.

    Attributes:
        feature_dim: Width of every token, and of the pooled feature.
        channels: Of a view.
        patch_size: Sides of a patch, px, one per dimension of the image.
    """

    feature_dim: int
    channels: int
    patch_size: tuple[int, ...]

    @abstractmethod
    def grid(self, view: Any) -> tuple[int, ...]:
        """Return the number of patches along each side of `view`.

        Raises:
            ShapeError: A side is no multiple of the patch's.
        """

    @abstractmethod
    def tokens(
        self, view: Any, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        """Encode `view`, `[batch, channels, *sides]`.

        Args:
            view: What `forward` takes.
            visible: Numbers of the patches that the encoder sees, `[batch, seen]`, int64; it does
                without the others. All by default.
            masked: Patches whose content is replaced by one learnt token, `[batch, count]`, bool.

        Raises:
            ShapeError: The view or the numbers do not fit.
        """

    def forward(self, view: Any) -> Tensor:
        """Return the feature of each view, `[batch, feature_dim]`."""
        return self.tokens(view).pooled


def require_tokens(encoder: nn.Module, *, method: str) -> TokenEncoder:
    """Return `encoder` if it can give the tokens of patches.

    Raises:
        ConfigError: It cannot.
    """
    if not isinstance(encoder, TokenEncoder):
        raise ConfigError(
            f"{method} needs a transformer, whose patches can be hidden; leave backbone.name out,"
            " or set it to vit_tiny or vit_small"
        )
    return encoder


def take_patches(patches: Tensor, numbers: Tensor) -> Tensor:
    """Return the patches with these numbers, `[batch, seen, dim]`, in the order of the numbers.

    Args:
        patches: `[batch, count, dim]`.
        numbers: Which to take of each sample, `[batch, seen]`, int64.

    Raises:
        ShapeError: Not as many rows of numbers as samples.
    """
    if numbers.ndim != 2 or len(numbers) != len(patches):
        raise ShapeError(
            f"expected numbers of patches [{len(patches)}, seen], got {tuple(numbers.shape)}"
        )
    return patches.gather(1, numbers[..., None].expand(-1, -1, patches.shape[2]))


def count_patches(view: Tensor, patch_size: tuple[int, ...], *, channels: int) -> tuple[int, ...]:
    """Return the number of patches along each side of `view`, `[batch, channels, *sides]`.

    Raises:
        ShapeError: It has other channels or dimensions, or a side is no multiple of the patch's.
    """
    sides = view.shape[2:]
    fits = view.ndim == 2 + len(patch_size) and view.shape[1] == channels
    if not fits or any(side % patch for side, patch in zip(sides, patch_size, strict=True)):
        multiples = " x ".join(map(str, patch_size))
        raise ShapeError(
            f"expected views [batch, {channels}, *sides] with sides in multiples of"
            f" {multiples} px, got {tuple(view.shape)}"
        )
    return tuple(side // patch for side, patch in zip(sides, patch_size, strict=True))

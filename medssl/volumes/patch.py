"""What patches of volumes are wanted, as settings: nothing here loads a reader."""

from typing import NamedTuple, Protocol


class Patch(NamedTuple):
    """What the patches of all volumes have in common.

    Attributes:
        side: Of the cube, px.
        spacing_mm: Between its voxels.
    """

    side: int
    spacing_mm: float


class Reading(Protocol):
    """How a run reads its data, or an encoder what it is given."""

    @property
    def patches(self) -> bool:
        """Whether volumes are cut."""

    @property
    def canvas(self) -> int | None:
        """Side of what is read, px."""

    @property
    def spacing_mm(self) -> float | None:
        """Between voxels."""


def patch_of(settings: Reading) -> Patch | None:
    """Return what patches are like; None where volumes are not cut.

    Raises:
        TypeError: Settings that are not resolved.
    """
    if not settings.patches:
        return None
    if settings.canvas is None or settings.spacing_mm is None:
        raise TypeError("expected resolved settings")
    return Patch(settings.canvas, settings.spacing_mm)

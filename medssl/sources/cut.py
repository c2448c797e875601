"""How slides are cut to tiles, and which tiles are wanted: as settings, without any reader."""

import re
from typing import NamedTuple, Self

LEFT_OUT = ("glass", "ink", "out of focus")  # why tiles of a slide have no row, in this order
ASSUMED = " assumed"  # how the member of a slide without microns per pixel ends


class Cut(NamedTuple):
    """How slides are cut; written into the manifest's column `member`.

    Attributes:
        px: Side of a tile.
        mpp: Microns per pixel of a tile.
        assumed: Of slides that do not say theirs; None leaves such slides out. In the member of a
            tile it stands only where it was needed.
    """

    px: int
    mpp: float
    assumed: float | None = None

    @property
    def member(self) -> str:
        """The text in the manifest."""
        end = "" if self.assumed is None else f" of {self.assumed:g} um{ASSUMED}"
        return f"{self.px} px at {self.mpp:g} um{end}"

    @classmethod
    def parse(cls, member: str) -> Self:
        """Read `member`."""
        found = _MEMBER.fullmatch(member)
        if found is None:
            raise ValueError(f"expected how a slide is cut, got {member!r}")
        return cls(int(found[1]), float(found[2]), float(found[3]) if found[3] else None)


_MEMBER = re.compile(r"(\d+) px at ([\d.e+-]+) um(?: of ([\d.e+-]+) um assumed)?")


class TileWishes(NamedTuple):
    """Which tiles of a slide are wanted.

    Attributes:
        cut: How it is cut.
        tissue: Share of tissue that a tile needs.
    """

    cut: Cut
    tissue: float = 0.5


USUAL_TILES = TileWishes(Cut(256, 0.5))

"""Which bits of its cell a DICOM value is: the lowest, or higher ones, as older files may have it.

Bits above and below a value may hold overlays. What stands below it and is no overlay tells that
the attributes are wrong: then it is not known which bits the value is.

Source:
    DICOM PS3.5, 8.1.1 (cells). Overlays in unused bits, retired: PS3.3-2004, C.9.2 (60xx,0102).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, RLELossless

from medssl.errors import Reason, UnsupportedImageError
from medssl.sources.decoded import Values
from medssl.sources.dicom_values import number_at, whole_number

_GROUPS = range(0x6000, 0x6020, 2)  # of overlays
_SIZE, _PLACE = 0x0100, 0x0102  # elements: bits allocated, bit position
OVERLAY_TAGS = tuple(group << 16 | element for group in _GROUPS for element in (_SIZE, _PLACE))


@dataclass(frozen=True, slots=True)
class BitField:
    """The bits of a cell that are the value.

    Attributes:
        allocated: Bits of a cell.
        stored: Bits of the value.
        high: The highest of them, from 0.
        signed: 1 if that is the sign, else 0.
    """

    allocated: int
    stored: int
    high: int
    signed: int

    @property
    def are_possible(self) -> bool:
        """Whether there can be such bits."""
        return 1 <= self.stored <= self.high + 1 <= self.allocated

    @property
    def are_lowest(self) -> bool:
        """Whether the value is in the lowest bits, as it has to be now."""
        return self.high == self.stored - 1

    def asked_for(self) -> dict[str, int]:
        """Return what pydicom is to give: values, or whole cells for `values` to take them from."""
        if self.are_lowest:
            return {"bits_stored": self.stored, "pixel_representation": self.signed}
        return {"bits_stored": self.allocated, "pixel_representation": 0}

    def values(self, path: Path, header: Dataset, decoded: Values) -> Values:
        """Return the values of what was decoded as `asked_for`.

        Args:
            path: For errors.
            header: Says which bits hold overlays.
            decoded: Of any shape.

        Raises:
            UnsupportedImageError: Bits below the value are in use, by no overlay.
        """
        if self.are_lowest:
            return decoded
        unused = (1 << (self.high + 1 - self.stored)) - 1
        unused &= ~_overlay_bits(path, header, self.allocated)
        if (decoded & np.array(unused, decoded.dtype)).any():
            detail = "values in bits that HighBit and BitsStored leave out"
            raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)
        on_top = decoded << (self.allocated - 1 - self.high)
        if self.signed:
            on_top = on_top.view(f"i{decoded.dtype.itemsize}")
        return np.asarray(on_top >> (self.allocated - self.stored))


def read_bits(path: Path, header: Dataset, float_bits: int | None) -> BitField:
    """Read which bits are the value; they may be impossible.

    Args:
        path: For errors.
        header: Of the file.
        float_bits: Of values that are no whole numbers, all of whose bits count.

    Raises:
        UnreadableFileError: BitsAllocated is missing, or no number.
    """
    signed = whole_number(path, header, "PixelRepresentation", 0)
    if float_bits:
        return BitField(float_bits, float_bits, float_bits - 1, signed)
    allocated = whole_number(path, header, "BitsAllocated")
    stored = whole_number(path, header, "BitsStored", allocated)
    high = whole_number(path, header, "HighBit", stored - 1)
    return BitField(allocated, stored, 0 if allocated == 1 else high, signed)


def require_certain(path: Path, bits: BitField, syntax: UID, photometric: str) -> None:
    """Refuse an image whose values may be in higher bits, if it is not certain whether they are.

    Decoders give values, not cells, but for RLE. Colours are made of values, too.

    Raises:
        UnsupportedImageError: It is not certain.
    """
    has_cells = syntax == RLELossless or not syntax.is_encapsulated
    if not (bits.are_lowest or (has_cells and not photometric.startswith("YBR"))):
        detail = "HighBit is not BitsStored - 1 in a compressed image, or in YBR colours"
        raise UnsupportedImageError(path, Reason.UNSUPPORTED, detail)


def _overlay_bits(path: Path, header: Dataset, allocated: int) -> int:
    """Return the bits of a cell that hold overlays, as a number in which they are 1."""
    found = 0
    for group in _GROUPS:
        size = number_at(path, header, group << 16 | _SIZE)
        place = number_at(path, header, group << 16 | _PLACE)
        if size == allocated and place is not None and 0 <= place < allocated:  # else by itself
            found |= 1 << int(place)
    return found

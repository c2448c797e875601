"""From stored values to 0..1: the windows, as one function."""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from medssl.sources.decoded import Decoded, Linear, Lut, Values, VoiWindow


class Window(StrEnum):
    """How stored values become 0 to 1.

    `auto` takes what the file asks for; without that, CT in HU gets `CT_DEFAULT`, other images of
    more than 8 bit their percentiles, and all others their full range. `file` takes the full range
    without a window in the file. `percentile` and `full` never look at the file's window. The four
    names of tissues are fixed windows for CT in HU; for other images they mean `auto`.

    PET in SUV by body weight gets `SUV_DEFAULT` by `auto`: what files ask for differs from slice to
    slice. `suv_5` and `suv_10` are narrower, and mean `auto` for other images.
    """

    AUTO = "auto"
    FILE = "file"
    PERCENTILE = "percentile"
    FULL = "full"
    SOFT_TISSUE = "soft_tissue"
    LUNG = "lung"
    BONE = "bone"
    BRAIN = "brain"
    SUV_5 = "suv_5"
    SUV_10 = "suv_10"


CT_DEFAULT = VoiWindow(40, 800)  # -360 to 440 HU: fat, organs, contrast, and where bone begins
CT_WINDOWS = {
    Window.SOFT_TISSUE: VoiWindow(40, 400),
    Window.LUNG: VoiWindow(-600, 1500),
    Window.BONE: VoiWindow(480, 2500),
    Window.BRAIN: VoiWindow(40, 80),
}
SUV_DEFAULT = VoiWindow(10, 20, "LINEAR_EXACT")  # 0 to 20 g/ml: brain and most tumours
SUV_WINDOWS = {
    Window.SUV_5: VoiWindow(2.5, 5, "LINEAR_EXACT"),  # 0 to 5: as PET is mostly printed
    Window.SUV_10: VoiWindow(5, 10, "LINEAR_EXACT"),
}
PERCENTILES = (0.5, 99.5)
Show = Callable[[Values], NDArray[np.float32]]
_SAMPLED = 1 << 18  # values that percentiles are taken from, at most


def to_display(decoded: Decoded, window: Window) -> NDArray[np.float32]:
    """Return the image as it is to be seen, `[channels, rows, columns]` in 0..1.

    Grey images go through the modality transform and the window, and MONOCHROME1 is inverted, so
    that more is always brighter. Colour images (3 channels, RGB) keep their full range. Values
    outside the window are at its ends; NaN and constant images are 0, black, in any case.
    """
    if decoded.channels == 3:
        values = decoded.colours()
        bits = values.dtype.itemsize * 8 if decoded.palette is not None else decoded.bits
        low, high = _type_range(values, bits)
        planes = np.ascontiguousarray(values.transpose(2, 0, 1))
        return _finite(_each(planes, lambda shown: _stretch(shown, low, high)))
    with np.errstate(over="ignore", invalid="ignore"):  # of values that are no numbers
        show = _shower(decoded, window)
        inverted = decoded.photometric == "MONOCHROME1"
        grey = _each(decoded.values, lambda values: 1 - show(values) if inverted else show(values))
    return _finite(grey)[None]


def window_of(values: Values, rescale: Linear | None) -> VoiWindow | None:
    """Return the window between the percentiles of many images together, to show them alike.

    Args:
        values: Stored, of any shape.
        rescale: From stored values to the unit of the window.

    Returns:
        None if there is nothing between them.
    """
    taken = _sampled(values.reshape(-1))
    taken = taken[np.isfinite(taken)]
    if taken.size == 0:
        return None
    low, high = _rescaled_ends(_ends(taken), rescale)
    return VoiWindow((low + high) / 2, high - low, "LINEAR_EXACT") if high > low else None


def show_volume(
    values: NDArray[np.float32],
    window: Window,
    *,
    modality: str | None,
    bits: int,
    in_suv: bool = False,
) -> NDArray[np.float32]:
    """Return voxels of any shape as they are to be seen, 0 to 1; what is no number is 0.

    CT has a fixed window in HU, PET one in SUV. Of others, volumes of up to 8 bit keep their full
    range and deeper ones get their percentiles, where `window` does not say otherwise: windows in
    files are those of single slices.

    Args:
        values: In the unit of the modality.
        window: `file` means `auto`.
        modality: A DICOM modality code.
        bits: Stored per value.
        in_suv: Whether the values are SUV, of PET.
    """
    if window not in (Window.PERCENTILE, Window.FULL):
        if modality == "CT":
            return _finite(_apply_window(values, CT_WINDOWS.get(window, CT_DEFAULT)))
        if in_suv:
            return _finite(_apply_window(values, SUV_WINDOWS.get(window, SUV_DEFAULT)))
    return _finite(_stretch(values, *_range_of_volume(values, window, bits)))


def _range_of_volume(values: NDArray[np.float32], window: Window, bits: int) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    if not kept.size:
        return 0.0, 0.0
    low, high, top = float(kept.min()), float(kept.max()), float((1 << bits) - 1)
    if bits <= 8 and low >= 0 and high <= top and window is not Window.PERCENTILE:
        return 0.0, top
    return (low, high) if window is Window.FULL else _ends(_sampled(kept))


def _each(values: Values, show: Show) -> NDArray[np.float32]:
    """Return what `show` makes of each value; it is asked once for those that many pixels share."""
    if not _is_short(values):
        return show(values)
    present, places = _distinct(values)
    return np.take(show(present), places) if present.size < values.size else show(values)


def _shower(decoded: Decoded, window: Window) -> Show:
    """Return what shows stored values, of any shape; only its bounds depend on the image."""
    chosen, rescale = _choose(decoded, window), decoded.rescale
    if isinstance(chosen, Lut):
        lut = chosen
        return lambda values: _stretch(lut(rescaled(values, rescale)), 0, (1 << lut.bits) - 1)
    if isinstance(chosen, VoiWindow):
        voi = chosen
        return lambda values: _apply_window(rescaled(values, rescale), voi)
    low, high = _full_range(decoded) if chosen is Window.FULL else _percentiles(decoded)
    return lambda values: _stretch(rescaled(values, rescale), low, high)


def _choose(decoded: Decoded, window: Window) -> Window | VoiWindow | Lut:
    """Decide among the file's own, a fixed window, and PERCENTILE or FULL."""
    if window in (Window.PERCENTILE, Window.FULL):
        return window
    if fixed := _fixed(decoded, window):
        return fixed
    if decoded.voi is not None:
        return decoded.voi
    if window is Window.FILE:
        return Window.FULL
    if _is_ct(decoded):
        return CT_DEFAULT
    is_deep = decoded.bits > 8 or decoded.values.dtype.kind == "f"
    return Window.PERCENTILE if is_deep else Window.FULL


def _is_ct(decoded: Decoded) -> bool:
    return decoded.modality == "CT" and decoded.rescale is not None


def _fixed(decoded: Decoded, window: Window) -> VoiWindow | None:
    """Return a window that goes before the file's own, in the unit of the file."""
    if decoded.suv is not None and window is not Window.FILE:
        chosen = SUV_WINDOWS.get(window, SUV_DEFAULT)
        return VoiWindow(chosen.center / decoded.suv, chosen.width / decoded.suv, "LINEAR_EXACT")
    return CT_WINDOWS.get(window) if _is_ct(decoded) else None


def rescaled(values: Values, rescale: Linear | Lut | None) -> Values:
    """Return stored values of any shape after the modality transform."""
    match rescale:
        case Lut():
            return rescale(values)
        case Linear(slope, intercept):
            return values.astype(np.float64) * slope + intercept
        case None:
            return values


def _apply_window(values: Values, window: VoiWindow) -> NDArray[np.float32]:
    """Apply a window as DICOM defines its three functions.

    Source:
        DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.
    """
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        exponent = -4 * (values.astype(np.float64) - center) / width
        return np.asarray(1 / (1 + np.exp(exponent)), np.float32)
    if window.function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    return _stretch(values, center - width / 2, center + width / 2)


def _percentiles(decoded: Decoded) -> tuple[float, float]:
    """Return the bounds of the rescaled image, without padding and what is not finite."""
    values, rescale = decoded.values.reshape(-1), decoded.rescale
    if decoded.padding:
        low, high = decoded.padding
        values = values[(values < low) | (values > high)]
    if isinstance(rescale, Lut):
        values, rescale = rescale(values), None
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    return _rescaled_ends(_ends(_sampled(values)), rescale)


def _rescaled_ends(ends: tuple[float, float], rescale: Linear | None) -> tuple[float, float]:
    """Return two stored values after the modality transform, the lower one first."""
    low, high = sorted(rescaled(np.array(ends), rescale).tolist())
    return low, high


def _sampled(values: Values) -> Values:
    """Return evenly spaced values, `_SAMPLED` at most; there must be one."""
    return values[:: -(-values.size // _SAMPLED)]


def _ends(values: Values) -> tuple[float, float]:
    """Return the percentiles; of short integers by counting, which is ten times faster."""
    if not _is_short(values):
        low, high = np.percentile(values.astype(np.float64), PERCENTILES)
        return float(low), float(high)
    present, places = _distinct(values)
    up_to = np.bincount(places, minlength=present.size).cumsum()
    rank = np.multiply(PERCENTILES, (values.size - 1) / 100)
    below, above = (
        present[up_to.searchsorted(whole, side="right")].astype(np.float64)
        for whole in (np.floor(rank), np.ceil(rank))
    )
    low, high = below + (above - below) * (rank % 1)
    return float(low), float(high)


def _is_short(values: Values) -> bool:
    return values.dtype.kind in "iu" and values.dtype.itemsize <= 2 and values.size > 0


def _distinct(values: Values) -> tuple[Values, Values]:
    """Return all short integers from the least to the greatest, and the place of each value."""
    stored = values.astype(values.dtype.newbyteorder("="), copy=False)
    low, high = stored.min(), stored.max()
    unsigned = np.dtype(f"u{stored.itemsize}")  # where differences come out right
    present = np.arange(int(low), int(high) + 1).astype(stored.dtype)
    return present, stored.view(unsigned) - low.view(unsigned)


def _full_range(decoded: Decoded) -> tuple[float, float]:
    ends = _type_range(decoded.values, decoded.bits)
    match decoded.rescale:
        case Lut(bits=bits):
            return 0.0, float((1 << bits) - 1)
        case rescale:
            return _rescaled_ends(ends, rescale)


def _type_range(values: Values, bits: int) -> tuple[float, float]:
    """Return the least and greatest value that `bits` bits can hold; of floats, those present."""
    if values.dtype.kind == "f":
        kept = values[np.isfinite(values)]
        return (float(kept.min()), float(kept.max())) if kept.size else (0.0, 1.0)
    if values.dtype.kind == "i":
        return float(-(1 << (bits - 1))), float((1 << (bits - 1)) - 1)
    return 0.0, float((1 << bits) - 1)


def _stretch(values: Values, low: float, high: float) -> NDArray[np.float32]:
    """Map `low` to 0 and `high` to 1, and clip; all is NaN if there is nothing between them."""
    if not high > low:
        return np.full(values.shape, np.nan, np.float32)
    exact: Values = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    scaled = np.subtract(exact, low) / (high - low)
    return np.clip(scaled, 0, 1).astype(np.float32)


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[np.isnan(values)] = 0
    return values

"""The chapter that shows how test cases were outlined."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from medssl.report import words
from medssl.report.sheets import Pixels, picture
from medssl.segmentation.examples import FILE
from sslcore.plots import series
from sslcore.report import writing
from sslcore.report.parts import Note, Picture, Section, Sheet, Strip

_SIDE = 208  # px stored of each picture, at least
_BRIGHT = 128  # of 255, from where dark lines are seen better
_PARTS = ("view", "mask", "outlined", "dice", "case")
Codes = NDArray[np.uint8]


def outline_section(folder: Path, classes: list[str]) -> Section:
    """Return the sheet of `examples.npz`, or the reason why there is none."""
    title = "Outlines"
    try:
        with np.load(folder / FILE, allow_pickle=False) as archive:
            view, mask, outlined, dice, case = (archive[name] for name in _PARTS)
        if len({len(each) for each in (view, mask, outlined, dice, case)}) > 1:
            raise ValueError("parts of several lengths")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        reason = f"Pictures need {FILE}, which medssl segment writes; it is missing or damaged."
        return Section("outlines", title, (Note(reason),))
    strips = []
    for number, name in enumerate(case.tolist()):
        key = words.short(name)
        pictures = [
            _drawn(view[number], codes[number], f"{what} of case {key}", line)
            for what, codes, line in (
                ("Mask", mask, "mask"),
                ("Outline", outlined, f"Dice {writing.decimals(float(dice[number]))}"),
            )
        ]
        lead = picture(_enlarged(view[number]), alt=f"Case {key}", lines=(f"case {key}",))
        strips.append(Strip(lead, tuple(pictures)))
    shown = ", ".join(f"{name}: {_COLOURS[place]}" for place, name in _named(classes))
    caption = (
        "Test cases in steps from the best to the worst, of the network with the most masks, as it"
        " saw them; of a volume the slice with most of the mask."
        + (f" Colours: {shown}." if len(classes) > 1 else "")
    )
    lead_text = "What a person marked, and what the network did."
    sheet = Sheet(caption, "Image", "Mask, and outline", tuple(strips))
    return Section("outlines", title, (sheet,), lead_text)


_COLOURS = ("blue", "red", "green", "violet", "yellow", "dark blue", "brown", "grey")


def _named(classes: list[str]) -> list[tuple[int, str]]:
    return [(place % len(_COLOURS), name) for place, name in enumerate(classes)]


def _drawn(view: Pixels, codes: Codes, alt: str, line: str) -> Picture:
    """Draw the rims of all classes into a picture."""
    pixels, large = _enlarged(view).copy(), _enlarged(codes)
    for number in np.unique(large[large > 0]).tolist():
        tone = series(number - 1)
        colour = ImageColor.getrgb(tone.dark if view.mean() < _BRIGHT else tone.light)
        pixels[_rim(large == number)] = colour[:3]
    return picture(pixels, alt=alt, lines=(line,))


def _rim(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a region that are near to others, two deep."""
    return inside & ~_eroded(_eroded(inside))


def _eroded(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(inside, 1, mode="edge")
    near = [padded[1 + down : , 1 + right :][: len(inside), : inside.shape[1]]
            for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1))]  # fmt: skip
    return np.asarray(inside & np.logical_and.reduce(near))


def _enlarged(pixels: Pixels) -> Pixels:
    """Repeat pixels so that a rim of one pixel is thin."""
    times = max(1, -(-_SIDE // max(pixels.shape[:2])))
    return pixels.repeat(times, axis=0).repeat(times, axis=1)

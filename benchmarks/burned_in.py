"""How often text in pixels is seen where there is some, and where there is none, and what it costs.

Run: OMP_NUM_THREADS=1 python benchmarks/burned_in.py

False alarms: all images of collections without text, and those of the DICOM collection, of which
the ones that show text were found by eye. Detections: radiological images that all carry a line of
their publisher, and names drawn into the corners of real images with Pillow's own font. The limits
of the detector were chosen with these false alarms in sight. Costs are processor times beside those
of reading and decoding the same files.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from record import data_folder, keep

from medssl.errors import IngestError
from medssl.sources.burned_in import is_likely
from medssl.sources.decoded import Decoded
from medssl.sources.npz import list_members
from medssl.sources.open import open_image
from medssl.sources.sniff import sniff
from medssl.sources.text_pixels import shows_text

WITHOUT = (
    "img_malaria_cells",
    "img_mednist",
    "img_brain_mri",
    "medmnist_pneumonia",
    "path_lc25000_lung",
    "path_monuseg",
    "seg_wbc",
    "dicom_dicomdir",
    "dicom_enhanced_mr",
    "dicom_hippocampus_series",
    "dicom_mr_series",
)
BY_EYE = frozenset(
    (
        "JLSN_RGB_ILV0.dcm",
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "OBXXXX1A_rle.dcm",
        "OBXXXX1A_rle_2frame.dcm",
        "US1_J2KR.dcm",
        "US1_UNCI.dcm",
        "examples_jpeg2k.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "examples_ybr_color.dcm",
        "mlut_18.dcm",
        "vlut_04.dcm",
    )
)
NAMES = {"full": "DOE^JANE 1951-03-12", "surname": "HARRISON", "short": "LEE K"}
VISIBLE = 60  # grey levels between ink and ground
SIZES = (8, 10, 12, 16, 24, 32, 48)  # of the font, px
INKS = (255, 180, 120)
GROUNDS = {"img_brain_mri": 13, "path_lc25000_lung": 27}  # every so many images
RADIOGRAPHS = ("RG1_J2KI.dcm", "RG3_J2KI.dcm")


def images(path: Path) -> Iterator[tuple[str, Decoded, float]]:
    """Yield kind, image and seconds of reading it, of up to 30 frames of a file."""
    kind = sniff(path)
    members = [item.name for item in list_members(path)] if kind == "npz" else [None]
    for member in members:
        start = time.process_time()
        with open_image(path, kind, member) as reader:
            frames = reader.facts.frames if kind == "npz" else min(reader.facts.frames, 30)
            for frame in range(frames):
                decoded = reader.decode(frame)
                yield kind, decoded, time.process_time() - start
                start = time.process_time()


def look(folder: str, *, shown: frozenset[str] | None = None) -> dict[str, Any]:
    """Look at all images of a folder; those of files in `shown` do show text."""
    counts: dict[str, int] = defaultdict(int)
    seconds = {"read": 0.0, "look": 0.0}
    flagged: set[str] = set()
    for path in sorted(item for item in data_folder(folder).rglob("*") if item.is_file()):
        try:
            for kind, decoded, read in images(path):
                start = time.process_time()
                is_seen = shows_text(decoded)
                seconds["look"] += time.process_time() - start
                seconds["read"] += read
                counts["images"] += 1
                counts["of kinds that a scan looks at"] += is_likely(kind, decoded)
                if is_seen:
                    flagged.add(path.name)
                    counts["flagged"] += 1
        except IngestError:
            counts["files that are no images"] += 1
    found: dict[str, Any] = {"folder": folder, "flagged": 0, **counts}
    if shown is not None:
        found |= {"files with text, by eye": len(shown), "of these seen": len(shown & flagged)}
        found |= {"not seen": sorted(shown - flagged), "false": sorted(flagged - shown)}
    if counts["images"]:
        per_image = {name: 1000 * value / counts["images"] for name, value in seconds.items()}
        found |= {f"{name}_ms": round(value, 2) for name, value in per_image.items()}
    return found


def grounds() -> Iterator[tuple[str, Decoded]]:
    """Yield images to draw into, in 8 bit; radiographs as they are seen, with 0 black."""
    for folder, every in GROUNDS.items():
        paths = sorted(data_folder(folder).rglob("*.jp*g"))[::every]
        for path in paths:
            for _, decoded, _ in images(path):
                yield folder, decoded
    for name in RADIOGRAPHS:
        for _, decoded, _ in images(data_folder("dicom_files") / name):
            top = decoded.values.max()
            grey = (255 - decoded.values.astype(np.float64) * (255 / top)).astype(np.uint8)
            yield "radiographs", replace(decoded, values=grey, bits=8)


def drawn(decoded: Decoded, text: str, size: int, ink: int, *, boxed: bool) -> Iterator[Decoded]:
    """Yield the image with a text in each corner where it fits and can be read by eye."""
    font = ImageFont.load_default(size)
    for right in (False, True):
        for low in (False, True):
            image = Image.fromarray(decoded.shown())
            pen = ImageDraw.Draw(image)
            _, _, width, height = pen.textbbox((0, 0), text, font=font)
            x = image.width - width - 4 if right else 4
            y = image.height - height - 4 if low else 4
            if x < 4 or y < 4:
                continue
            ground = np.median(np.asarray(image.convert("L"))[y : y + height, x : x + width])
            if not boxed and abs(ground - ink) < VISIBLE:
                continue
            fill = (ink,) * len(image.getbands())
            if boxed:
                box = (x - 3, y - 3, x + width + 3, y + height + 3)
                pen.rectangle(box, fill=(235,) * len(image.getbands()))
            pen.text((x, y), text, fill=fill, font=font)
            yield replace(decoded, values=np.asarray(image), palette=None)


def detections() -> list[dict[str, Any]]:
    """Measure how many drawn names are seen, for each ground, text, size and ink."""
    seen: dict[tuple[str, str, int, str], list[bool]] = defaultdict(list)
    for ground, decoded in grounds():
        for size in SIZES:
            for name, text in NAMES.items():
                inks = INKS if name == "full" else INKS[:1]
                for ink in inks:
                    for image in drawn(decoded, text, size, ink, boxed=False):
                        seen[ground, name, size, str(ink)].append(shows_text(image))
            for image in drawn(decoded, NAMES["full"], size, 0, boxed=True):
                seen[ground, "full", size, "0 on a box of 235"].append(shows_text(image))
    return [
        {
            **dict(zip(("ground", "text", "px", "ink"), case, strict=True)),
            "drawn": len(found),
            "seen": round(float(np.mean(found)), 3),
        }
        for case, found in sorted(seen.items())
    ]


def main() -> None:
    """Measure all three."""
    keep(
        "burned_in",
        {
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "without_text": [look(name) for name in WITHOUT],
            "dicom_files": look("dicom_files", shown=BY_EYE),
            "with_text": look("text_vqarad"),
            "texts": NAMES,
            "drawn": detections(),
        },
    )


if __name__ == "__main__":
    main()

"""Some test cases as they were outlined, for the eyes: good ones, bad ones and those between.

`examples.npz` holds for each `view` (`[examples, rows, columns, 3]`, uint8, as the network saw it,
of a volume the slice with most of the mask), `mask` and `outlined` (`[examples, rows, columns]`,
classes, of the network's resolution), `dice` (mean over the classes that occur) and `case`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from medssl.loading.fitting import Fitting
from medssl.segmentation.cases import mean_known
from medssl.segmentation.masked_images import MaskedImages
from medssl.segmentation.seen_images import Outline
from medssl.segmentation.trials import Bench, Kept
from medssl.transforms.resizing import resize_labels

FILE = "examples.npz"
MOST = 6


class _Picture(NamedTuple):
    view: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    outlined: NDArray[np.uint8]
    pixels: int  # of the mask


def draw_examples(folder: Path, kept: Kept, bench: Bench, names: list[str]) -> None:
    """Outline some test cases with the network that is kept, and write `examples.npz`.

    Args:
        folder: Of the results.
        kept: The network.
        bench: Its test cases.
        names: Of these.
    """
    dice = np.nan_to_num(mean_known(kept.counts.dice(), axis=1))
    order = np.argsort(-dice, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(MOST, len(order))).round().astype(int))
    chosen = order[places]
    best: dict[int, _Picture] = {}
    shown = np.isin(bench.cases[bench.split.test], bench.tested[chosen])
    for found in bench.images.outline(kept.network, bench.split.test[shown]):
        case = bench.case_of(found.row)
        picture = _picture(found, bench.images.truth(found.row), bench.images)
        if case not in best or picture.pixels > best[case].pixels:
            best[case] = picture
    pictures = [best[case] for case in chosen.tolist()]
    np.savez(
        folder / FILE,
        view=np.stack([each.view for each in pictures]),
        mask=np.stack([each.mask for each in pictures]),
        outlined=np.stack([each.outlined for each in pictures]),
        dice=dice[chosen],
        case=np.array([names[case] for case in chosen.tolist()]),
    )


def _picture(found: Outline, truth: NDArray[np.uint8], images: MaskedImages) -> _Picture:
    """Return a sample at the size of its view; of a volume one slice."""
    fitting = images.fitting(found.row)
    size = images.spec.image_size
    mask, outlined = (_at_size(codes, fitting, size) for codes in (truth, found.codes))
    view = images.views.display(found.view[None])[0]
    if mask.ndim == 3:
        middle = int((mask > 0).sum(axis=(1, 2)).argmax())
        view, mask, outlined = view[:, middle], mask[middle], outlined[middle]
    colours = view.expand(3, -1, -1) if len(view) == 1 else view
    if images.spec.slab > 1:  # neighbours are no colours
        colours = view[1:2].expand(3, -1, -1)
    pixels = (colours * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return _Picture(pixels, mask, outlined, int((truth > 0).sum()))


def _at_size(codes: NDArray[np.uint8], fitting: Fitting, size: int) -> NDArray[np.uint8]:
    canvas = fitting.labels(torch.from_numpy(codes))
    found: NDArray[np.uint8] = resize_labels(canvas[None], [size] * canvas.ndim)[0].numpy()
    return found

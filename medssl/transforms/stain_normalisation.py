"""The colours of haematoxylin and eosin, brought to those of one reference.

Every image is measured by itself. So an image with hardly any tissue, or with one dye only, is left
as it is where a method cannot tell its dyes apart; an image that has little of a dye gets more of
it. Nothing here is random: for random changes of stain see `medssl.transforms.stain`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from torch import Tensor

from medssl.config import StainMethod

Floats = NDArray[np.floating[Any]]

_LIGHT = 240.0  # through clear glass, of 255
_CLEAR = 0.15  # optical density, of base e; below in any colour, a pixel is glass
_LEAST_TISSUE = 0.02  # of the pixels
_MOST_PIXELS = 4096  # that the dyes are measured on
_TAIL = 1.0  # percent of the angles beyond those of the pure dyes
_LEAST_ANGLE = np.radians(8.0)  # between the dyes; those of the reference are 22 degrees apart
_SPARSE = 0.1  # weight of the sum of amounts beside half the squared error
_LEAST_STD = 1e-3  # in l, alpha and beta; of grey images it is rounding
_LEAST = 1e-6  # instead of a division by 0
_ROUNDS = 60  # of amounts and dyes by turns; 40 more move the dyes by less than 0.001

# Density of haematoxylin and eosin in red, green and blue, and the amounts that 1 % exceed.
_DYES = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
_AMOUNTS = np.array([1.9705, 1.0308])

# Mean and deviation of a section, and how values of 0 to 255 become l, alpha and beta.
_LAB_MEAN = np.array([8.74108109, -0.12440419, 0.0444982])
_LAB_STD = np.array([0.6135447, 0.10989545, 0.0286032])
_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])


class NormalizeStain(Transform):
    """Give an image of a section the colours of the reference; usable in a MONAI `Compose`.

    `macenko` finds the dyes as the extremes of the plane that holds most densities, `vahadane` as
    the two directions that explain the densities with few and positive amounts (slower); both then
    scale the amounts. `reinhard` shifts and scales colour as a whole.

    Source:
        Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI
        2009, with the dyes, amounts and thresholds of the widespread implementation by its readers
        (tolerance 1 %, density 0.15, light 240). The direction of the eigenvectors, which numerical
        libraries leave open, is fixed here: where it is not, images come out in false colours.
        Vahadane et al., "Structure-preserving color normalization and sparse stain separation for
        histological images", IEEE TMI 2016, section III, same reference, weight 0.1.
        Reinhard et al., "Color transfer between images", IEEE CG&A 2001; mean and deviation of a
        region of TCGA-A2-A3XS-DX1, as Amgad et al., Bioinformatics 2019, use it.
    """

    def __init__(self, method: StainMethod) -> None:
        """Choose the method."""
        self.method = method
        self._change: Callable[[Floats, Floats], Floats | None] = {
            "macenko": lambda values, tissue: _restain(values, _macenko(_density(tissue))),
            "vahadane": lambda values, tissue: _restain(
                values, _vahadane(_density(tissue)), _positive_amounts
            ),
            "reinhard": lambda values, _: _reinhard(values),
        }[method]

    def __call__(self, image: Tensor) -> Tensor:
        """Return the changed image.

        Args:
            image: `[3, rows, columns]`, 0 to 1.

        Returns:
            Likewise, float32; unchanged where there is too little to measure.
        """
        values = image.float().flatten(1).numpy() * 255
        is_tissue = (_density(values) >= _CLEAR).all(axis=0)
        if is_tissue.mean() < _LEAST_TISSUE:
            return image.float()
        tissue = values[:, is_tissue].astype(np.float64)
        tissue = tissue[:, :: -(-tissue.shape[1] // _MOST_PIXELS)]
        changed = self._change(values, tissue)
        if changed is None:
            return image.float()
        return torch.from_numpy(changed).float().div_(255).clamp_(0, 1).view_as(image)


def dye_amounts(pixels: NDArray[np.uint8]) -> Floats:
    """Return how much haematoxylin and eosin each pixel of tissue has, by the reference's dyes.

    The dyes are not fitted to the image, so that images can be compared; an amount may be negative
    where the colour is none of theirs.

    Args:
        pixels: `[..., 3]`, RGB.

    Returns:
        `[2, pixels]`, optical density of base e; without the pixels that are glass.
    """
    density = _density(pixels.reshape(-1, 3).T.astype(np.float32))
    return _plain_amounts(_DYES, density[:, (density >= _CLEAR).all(axis=0)])


def _density(values: Floats) -> Floats:
    """Return optical densities of values of 0 to 255, which count from 1."""
    density: Floats = -np.log(np.minimum(values + 1, _LIGHT) / _LIGHT)
    return density


def _plain_amounts(dyes: Floats, density: Floats) -> Floats:
    """Return the amounts with the least squared error, `[2, pixels]`."""
    amounts: Floats = np.linalg.pinv(dyes).astype(density.dtype) @ density
    return amounts


def _positive_amounts(dyes: Floats, density: Floats) -> Floats:
    """Return the amounts of 0 or more with the least error and sum; of two dyes, in closed form."""
    overlap = float(dyes[:, 0] @ dyes[:, 1])
    seen = dyes.T.astype(density.dtype) @ density - _SPARSE
    both = np.stack([seen[0] - overlap * seen[1], seen[1] - overlap * seen[0]]) / (1 - overlap**2)
    alone = np.maximum(seen, 0)
    both[0] = np.where(both[1] < 0, alone[0], both[0])
    both[1] = np.where(both[0] < 0, alone[1], both[1])
    return np.maximum(both, 0)


def _restain(
    values: Floats,
    dyes: Floats | None,
    amounts_of: Callable[[Floats, Floats], Floats] = _plain_amounts,
) -> Floats | None:
    """Replace the dyes of an image by those of the reference, and scale their amounts."""
    if dyes is None:
        return None
    amounts = amounts_of(dyes, _density(values))
    most = np.percentile(amounts, 99, axis=1)
    if most.min() <= 0:
        return None
    to_reference = (-_DYES * (_AMOUNTS / most)).astype(amounts.dtype)
    changed: Floats = _LIGHT * np.exp(to_reference @ amounts) - 1
    return changed


def _macenko(density: Floats) -> Floats | None:
    """Return the dyes, `[3, 2]`, each 1 long; None if there are not two."""
    _, vectors = np.linalg.eigh(np.cov(density))
    plane = vectors[:, [2, 1]]
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)  # densities are positive
    along, across = plane.T @ density
    low, high = np.percentile(np.arctan2(across, along), [_TAIL, 100 - _TAIL])
    return _in_order(plane @ np.array([[np.cos(low), np.cos(high)], [np.sin(low), np.sin(high)]]))


def _vahadane(density: Floats) -> Floats | None:
    """Return the dyes, as `_macenko`, from which the search starts.

    The dyes are improved one after the other, as in Mairal et al., "Online learning for matrix
    factorization and sparse coding", JMLR 2010, algorithm 2.
    """
    dyes = _macenko(density)
    for _ in range(_ROUNDS):
        if dyes is None:
            return None
        amounts = _positive_amounts(dyes, density)
        used, seen = amounts @ amounts.T, density @ amounts.T
        for dye in range(2):
            dyes[:, dye] += (seen[:, dye] - dyes @ used[:, dye]) / max(used[dye, dye], _LEAST)
            dyes[:, dye] = np.maximum(dyes[:, dye], _LEAST)
            dyes[:, dye] /= np.linalg.norm(dyes[:, dye])
        dyes = _in_order(dyes)
    return dyes


def _in_order(dyes: Floats) -> Floats | None:
    """Put haematoxylin, which takes more of the red, first; None if both are the same."""
    angle = np.arccos(np.clip(dyes[:, 0] @ dyes[:, 1], -1, 1))
    if angle < _LEAST_ANGLE or dyes.sum(axis=0).min() <= 0:
        return None
    return dyes if dyes[0, 0] > dyes[0, 1] else dyes[:, ::-1].copy()


def _reinhard(values: Floats) -> Floats | None:
    """Give the image the mean and the deviation of the reference in l, alpha and beta."""
    lab = _lab(values)
    mean, std = (lab.mean(axis=1, dtype=np.float64), lab.std(axis=1, dtype=np.float64))
    if std.min() < _LEAST_STD:
        return None
    scale = _LAB_STD / std
    back = np.linalg.inv(_TO_LAB)
    shift = (back @ (_LAB_MEAN - scale * mean))[:, None].astype(lab.dtype)
    lms = np.exp((back * scale).astype(lab.dtype) @ lab + shift)
    changed: Floats = np.linalg.inv(_TO_LMS).astype(lab.dtype) @ lms
    return changed


def _lab(values: Floats) -> Floats:
    lms = _TO_LMS.astype(values.dtype) @ np.maximum(values, 1)
    lab: Floats = _TO_LAB.astype(values.dtype) @ np.log(lms)
    return lab

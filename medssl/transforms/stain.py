"""Stain variation of histology: laboratories differ in dye, time and thickness of the section."""

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.transforms.base import BatchedTransform, Params
from sslcore.random import SampleRandom

# Optical density of haematoxylin, eosin and DAB in red, green and blue.
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_DARKEST = 1 / 255  # below, no light was counted and density is unknown


class RandStain(BatchedTransform):
    """Scale and shift the amount of each dye in each image.

    Values below 1/255, where optical density is unknown, are raised to it.

    Source:
        The dyes' colours: Ruifrok, Johnston, "Quantification of histochemical staining by color
        deconvolution", Anal Quant Cytol Histol 2001, 23(4), rows normalised to length 1. The
        random change: Tellez et al., "Quantifying the effects of data augmentation and stain
        color normalization", Med Image Anal 2019, arXiv:1902.06543, section 3.1: `alpha * dye +
        beta` per dye; "light" uses 0.05, "strong" 0.2, for both.
    """

    def __init__(self, *, strength: float = 0.1, prob: float = 0.9) -> None:
        """Draw `alpha` from `1 ± strength` and `beta` from `± strength`, for each dye."""
        super().__init__(prob)
        self.strength = strength

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `matrix`, `[batch, 3, 3]`, and `shift`, `[batch, 3, 1]`, of optical density."""
        draws = random.uniform(shape=(7,))
        applied = self.strength * (draws[:, :1] < self.prob).float()
        alpha = 1 + applied * (2 * draws[:, 1:4] - 1)
        beta = applied * (2 * draws[:, 4:7] - 1)
        stains = F.normalize(torch.tensor(_STAINS), dim=1).T  # dyes to density, columns
        to_dyes = torch.linalg.inv(stains).to(
            random.device
        )  # on the CPU: a GPU would be waited for
        stains = stains.to(random.device)
        matrix = (stains * alpha[:, None, :]) @ to_dyes
        return {"matrix": matrix, "shift": stains @ beta[:, :, None]}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Like `apply`, but may overwrite `images`; clipped to 0 to 1."""
        density = images.flatten(2).clamp_(min=_DARKEST).log_()  # its negative, in fact
        changed = torch.baddbmm(params["shift"], params["matrix"], density, beta=-1)
        return changed.exp_().view_as(images).clamp_(0, 1)

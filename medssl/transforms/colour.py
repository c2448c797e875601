"""Saturation, hue and grey: for photographs, whose colour is the lamp's as much as the skin's."""

import math

import torch
from torch import Tensor

from medssl.transforms.base import BatchedTransform, Params
from sslcore.random import SampleRandom

_LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = (_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


class RandColour(BatchedTransform):
    """Turn hue, scale saturation, and make some images grey: one 3 x 3 matrix per image.

    Hue and saturation are angle and length in the colour plane of YIQ, so that brightness stays.
    Images with one channel have no colour and are an error.
    """

    def __init__(
        self,
        *,
        saturation: float = 0.3,
        hue: float = 0.05,
        grey: float = 0.1,
        prob: float = 0.8,
    ) -> None:
        """Describe the change.

        Args:
            saturation: Largest change of the factor, either way.
            hue: Largest turn, either way, in parts of a full turn.
            grey: Share of samples, of all, that lose their colour.
            prob: Share of samples whose hue and saturation change.
        """
        super().__init__(prob)
        self.saturation = saturation
        self.hue = hue
        self.grey = grey

    def sample(self, random: SampleRandom) -> dict[str, Tensor]:
        """Draw `matrix`, `[batch, 3, 3]`, from RGB to RGB."""
        draws = random.uniform(shape=(4,))
        applied = (draws[:, 0] < self.prob).float()
        colourful = (draws[:, 3] >= self.grey).float()
        angle = applied * 2 * math.pi * self.hue * (2 * draws[:, 1] - 1)
        length = (1 + applied * self.saturation * (2 * draws[:, 2] - 1)) * colourful
        cos, sin = length * torch.cos(angle), length * torch.sin(angle)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1)
        to_yiq = torch.tensor(_TO_YIQ)
        to_rgb = torch.linalg.inv(to_yiq).to(random.device)  # on the CPU: a GPU would be waited for
        return {"matrix": to_rgb @ turn.view(-1, 3, 3) @ to_yiq.to(random.device)}

    def apply_(self, images: Tensor, params: Params) -> Tensor:
        """Return changed images, clipped to 0 to 1."""
        return (params["matrix"] @ images.flatten(2)).view_as(images).clamp_(0, 1)

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Return changed images, clipped to 0 to 1."""
        return self.apply_(images, params)

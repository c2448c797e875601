"""The completed part of a run, for methods that do other things later in it."""

import torch
from torch import Tensor, nn


class Progress(nn.Module):
    """A number from 0 to 1 that is part of the state dict, so that a resumed run knows it."""

    done: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros(()))

    @property
    def value(self) -> float:
        """The completed part. Waits for the device."""
        return float(self.done)

    def move(self, progress: float) -> None:
        """Set the completed part."""
        self.done.fill_(progress)

"""What of a network that outlines structures stays on disk.

FOLDER/
    segmenter.safetensors   encoder and decoder
    segmenter.json          how to rebuild it, and its classes
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.encoder import build_spec_backbone
from medssl.encoder_spec import EncoderSpec, parse_spec
from medssl.segmentation.network import Segmenter, segmenter_of
from sslcore.errors import CheckpointError
from sslcore.training.checkpoint import (
    load_encoder_weights,
    read_encoder_description,
    save_encoder,
)

WEIGHTS = "segmenter.safetensors"


@dataclass(frozen=True, slots=True)
class TrainedSegmenter:
    """A network with all that is needed to use it.

    Attributes:
        network: On the device where it computes.
        spec: How its images are read, and its backbone is built.
        classes: Names, from number 1.
        about: Further facts for the reader: which model, how many masks.
    """

    network: Segmenter
    spec: EncoderSpec
    classes: tuple[str, ...]
    about: dict[str, Any]

    def store(self, folder: Path) -> None:
        """Write the files of the module's docstring into `folder`."""
        about = {"classes": self.classes, "about": self.about}
        save_encoder(folder / WEIGHTS, self.network, {**asdict(self.spec), **about})


def load_segmenter(folder: Path, *, device: torch.device) -> TrainedSegmenter:
    """Load what `TrainedSegmenter.store` wrote, in evaluation mode.

    Raises:
        CheckpointError: There is none, or it is damaged.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise CheckpointError(f"{folder} holds no such network; give a folder of medssl segment")
    told = read_encoder_description(path)
    spec = parse_spec(told, path)
    try:
        classes, about = tuple(map(str, told["classes"])), dict(told["about"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: no whole network: {error}") from error
    network = segmenter_of(build_spec_backbone(spec), spec, len(classes))
    load_encoder_weights(path, network)
    return TrainedSegmenter(network.to(device).eval(), spec, classes, about)

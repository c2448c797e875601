"""A pretrained encoder: from the files of a run to embeddings of images."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medssl.backbone import Backbone, with_head_layer
from medssl.backbones import build_backbone
from medssl.config import ViewsConfig
from medssl.encoder_spec import EncoderSpec, parse_spec
from medssl.errors import DataError, IngestError
from medssl.hub_backbones import rebuild_hub_backbone
from medssl.loading.dataset import CanvasDataset
from medssl.loading.store import StorePlan
from medssl.manifest import Manifest
from medssl.run_folder import RunFolder
from medssl.sources.local import one_copy_kept
from medssl.view_maker import MultiViewMaker, move_canvases
from medssl.views import build_views
from sslcore.console import Progress
from sslcore.errors import CheckpointError
from sslcore.modules.heads import first_layer, projection_mlp
from sslcore.training.checkpoint import load_encoder_weights, read_encoder_description, save_encoder
from sslcore.training.health import evaluating

_READERS = 4  # threads; decoders leave Python's lock


class Embeddings(NamedTuple):
    """Result of `Encoder.encode`.

    Attributes:
        values: One row for each image that could be read, `[count, dim]`, float32.
        rows: Their rows of the manifest, rising, `[count]`.
        failures: What could not be read, by row of the manifest.
    """

    values: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]
    failures: dict[int, IngestError]


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder with the preparation its images need.

    Attributes:
        backbone: The network, on the device where it computes.
        spec: How it was built and fed.
    """

    backbone: Backbone
    spec: EncoderSpec

    @torch.no_grad()
    def encode(
        self, manifest: Manifest, *, batch_size: int = 256, progress: Progress | None = None
    ) -> Embeddings:
        """Encode the images of `manifest`, in its order.

        Images that cannot be read are set aside, see `Embeddings.failures`. An encoder of volumes
        needs a manifest of volumes, see `medssl.volumes.samples`.
        """
        device = next(self.backbone.parameters()).device
        maker = build_spec_views(self.spec)
        dataset = open_dataset(manifest, self.spec, cache_gb=0)
        values: list[npt.NDArray[np.float32]] = []
        rows: list[int] = []
        failures: dict[int, IngestError] = {}
        if progress:
            progress.expect(len(manifest), unit="images")
        with evaluating(self.backbone):
            for block in torch.split(torch.arange(len(manifest)), batch_size):
                canvases = _read(dataset, block.tolist(), failures)
                if canvases:
                    pixels = move_canvases(torch.stack(list(canvases.values())), device)
                    values.append(self.backbone(maker.plain(pixels)).float().cpu().numpy())
                    rows.extend(canvases)
                if progress:
                    progress.advance(len(block))
        if not values:
            raise DataError(f"none of the {len(manifest)} images can be read")
        return Embeddings(np.concatenate(values), np.array(rows, np.int64), failures)


def load_encoder(run: Path, *, device: torch.device | None = None) -> Encoder:
    """Load the encoder that a run left in its folder.

    Args:
        run: Folder of the run.
        device: Where it computes; the CPU by default.

    Raises:
        CheckpointError: There is none yet, or it is damaged.
    """
    path = RunFolder(run).encoder
    if not path.exists():
        raise CheckpointError(f"{run} holds no encoder; pretrain first, or finish with --resume")
    spec = parse_spec(read_encoder_description(path), path)
    backbone = build_spec_backbone(spec)
    load_encoder_weights(path, backbone)
    return Encoder(backbone.to(device or torch.device("cpu")).eval(), spec)


def unfinished(run: Path) -> str | None:
    """Say in a line that the encoder of a run is not that of its last step; None if it is.

    Raises:
        CheckpointError: See `load_encoder`.
    """
    about = read_encoder_description(RunFolder(run).encoder)
    step, steps = about.get("step"), about.get("steps")
    if not isinstance(step, int) or not isinstance(steps, int) or step >= steps:
        return None
    return f"the run stands at step {step} of {steps}: what follows is of the encoder of this step"


def store_encoder(path: Path, backbone: Backbone, spec: EncoderSpec, **about: object) -> None:
    """Write weights and specification, with further facts, such as the number of steps."""
    save_encoder(path, backbone, {**asdict(spec), **about})


def build_spec_backbone(spec: EncoderSpec) -> Backbone:
    """Build the untrained network of `spec`."""
    network = _build_network(spec)
    if not spec.head_layer:
        return network
    head = projection_mlp([network.feature_dim, spec.feature_dim, 1])
    return with_head_layer(network, first_layer(head))


def _build_network(spec: EncoderSpec) -> Backbone:
    if spec.network is not None:
        return rebuild_hub_backbone(
            spec.backbone, spec.network, channels=spec.channels, pooling=spec.pooling
        )
    return build_backbone(
        spec.backbone,
        channels=spec.channels,
        image_size=spec.image_size,
        dims=spec.dims,
        stem=spec.stem,
        width=spec.width,
        norm=spec.norm,
        pooling=spec.pooling,
        registers=spec.registers,
    )


def build_spec_views(spec: EncoderSpec, views: ViewsConfig | None = None) -> MultiViewMaker:
    """Build the views of `spec`; `views` says how the random ones differ from its preset."""
    return build_views(
        views or ViewsConfig(),
        spec.preset,
        spec.image_size,
        spec.channels,
        dims=spec.dims,
        mean=spec.mean,
        std=spec.std,
    )


def open_dataset(
    manifest: Manifest, spec: EncoderSpec, *, cache_gb: float, store: StorePlan | None = None
) -> CanvasDataset:
    """Read the images of `manifest` as in training."""
    return CanvasDataset(
        manifest,
        canvas=spec.canvas,
        channels=spec.channels,
        window=spec.window,
        stain=spec.stain,
        spacing_mm=spec.spacing_mm,
        cache_gb=cache_gb,
        store=store,
    )


def _read(
    dataset: CanvasDataset, rows: list[int], failures: dict[int, IngestError]
) -> dict[int, Tensor]:
    def read(row: int) -> Tensor | IngestError:
        try:
            return dataset[row]
        except IngestError as error:
            return error

    def read_part(part: list[int]) -> list[Tensor | IngestError]:
        with one_copy_kept():
            return [read(row) for row in part]

    size = -(-len(rows) // _READERS)
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]  # slices of a file together
    canvases: dict[int, Tensor] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for row, result in zip(rows, chain(*pool.map(read_part, parts)), strict=True):
            if isinstance(result, Tensor):
                canvases[row] = result
            else:
                failures[row] = result
    return canvases

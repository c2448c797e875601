"""All that one pretraining run is made of, built from the files in its folder."""

from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric
from monai.networks.nets.efficientnet import MBConvBlock
from torch import Tensor, nn
from torch.optim import Optimizer

from medssl.backbone import Backbone, with_head_layer, without_head_layer
from medssl.backbones import build_backbone
from medssl.config import PretrainConfig
from medssl.encoder import build_spec_views, load_encoder
from medssl.encoder_spec import EncoderSpec
from medssl.health import HealthImages, class_numbers, pick_images
from medssl.hub_backbones import HUB_KNOWN, build_hub_backbone
from medssl.loading.dataset import CanvasDataset
from medssl.manifest import Manifest, read_manifest
from medssl.run_data import choose_backbone, image_shape, tell_burned_in, training_rows
from medssl.run_folder import RunFolder
from medssl.run_images import open_images
from medssl.view_maker import MultiViewMaker
from medssl.volumes.samples import samples_of
from sslcore.device import share_batch_statistics
from sslcore.errors import ConfigError
from sslcore.methods.method import ViewMethod
from sslcore.methods.settings import MethodSection
from sslcore.modules.branch import set_micro_batch
from sslcore.modules.heads import first_layer
from sslcore.random import seeded
from sslcore.training.checkpoint import read_encoder_description
from sslcore.training.optimizers import build_optimizer


@dataclass(frozen=True, slots=True)
class RunParts:
    """All that one run is made of.

    Attributes:
        backbone: What the run leaves: the encoder, and a layer of the head if the method keeps it.
        labels: Class of each image of `dataset`, -1 where it is unknown, for a method that learns
            from them; else None.
        left_out: What to tell about images that are not learnt from; None if there is nothing.
    """

    config: PretrainConfig
    dataset: CanvasDataset
    images: HealthImages
    maker: MultiViewMaker
    spec: EncoderSpec
    backbone: Backbone
    method: ViewMethod
    optimizer: Optimizer
    labels: Tensor | None
    left_out: str | None

    @property
    def steps(self) -> int:
        """Of the whole run."""
        run = self.config.run
        return run.steps or run.epochs * (len(self.dataset) // run.batch_size)


def assemble(folder: RunFolder, fabric: Fabric) -> RunParts:
    """Build the parts from the files in `folder`; every process does the same."""
    config = folder.read_config()
    every = samples_of(read_manifest(folder.manifest), config.data)
    manifest = training_rows(every, config.data)
    channels, _ = image_shape(config)
    dataset = open_images(manifest, config)
    images = pick_images(manifest, dataset, count=config.run.health_samples, seed=config.run.seed)
    method, backbone = build_run_method(config, channels)
    spec = EncoderSpec.of_run(config, statistics=_statistics(images, folder), backbone=backbone)
    method.to(fabric.device)
    share_batch_statistics(method, fabric)
    if config.method.keeps_head_layer:
        backbone = with_head_layer(backbone, first_layer(method.student.head))
        spec = replace(spec, feature_dim=backbone.feature_dim, head_layer=True)
    optimizer = build_optimizer(
        method,
        config.optim,
        batch_size=config.run.batch_size,
        default_rate=config.method.default_learning_rate(config.optim.name),
    )
    maker = build_spec_views(spec, config.views)
    return RunParts(
        config,
        dataset,
        images,
        maker,
        spec,
        backbone,
        method,
        optimizer,
        labels=_labels(manifest, config.method),
        left_out=tell_burned_in(every, config.data),
    )


def build_run_method(config: PretrainConfig, channels: int) -> tuple[ViewMethod, Backbone]:
    """Build encoder and method from the run's seed."""
    with seeded(config.run.seed):
        backbone = _build_run_backbone(config, channels)
        _switch_off_dropout(backbone)
        method = config.method.build(backbone, backbone.feature_dim)
    set_micro_batch(method, config.run.micro_batch)
    return method, backbone


def _build_run_backbone(config: PretrainConfig, channels: int) -> Backbone:
    name, settings, size = choose_backbone(config), config.backbone, config.image_size
    if name in HUB_KNOWN:
        return build_hub_backbone(name, settings, channels=channels, image_size=size)
    backbone = build_backbone(
        name,
        channels=channels,
        image_size=size,
        dims=config.data.dims,
        stem=settings.stem,
        width=settings.width,
        norm=settings.norm,
        pooling=settings.pooling,
        registers=settings.registers,
    )
    if settings.weights:
        _begin_at(backbone, Path(settings.weights), config, channels)
    return backbone


def _begin_at(backbone: Backbone, run: Path, config: PretrainConfig, channels: int) -> None:
    """Take the weights of an earlier run's encoder, without a layer of its head.

    Raises:
        CheckpointError: It left none.
        ConfigError: They are of another network.
    """
    earlier = load_encoder(run)
    spec, settings = earlier.spec, config.backbone
    network = without_head_layer(earlier.backbone) if spec.head_layer else earlier.backbone
    asked = {
        "backbone.name": (choose_backbone(config), spec.backbone),
        "backbone.stem": (settings.stem, spec.stem),
        "backbone.width": (settings.width, spec.width),
        "backbone.norm": (settings.norm, spec.norm),
        "backbone.pooling": (settings.pooling, spec.pooling),
        "backbone.registers": (settings.registers, spec.registers),
        "data.channels": (channels, spec.channels),
        "data.dims": (config.data.dims, spec.dims),
    }
    differing = [f"{key}={theirs}" for key, (ours, theirs) in asked.items() if ours != theirs]
    if differing:
        raise ConfigError(
            f"backbone.weights {run}: of another network than this run's; set {' '.join(differing)}"
        )
    try:
        backbone.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"backbone.weights {run}: of {spec.image_size} px, and do not fit image_size"
            f" {config.image_size}; set image_size={spec.image_size}"
        ) from error


def describe(parts: RunParts, fabric: Fabric) -> str:
    """Say what was chosen, above all where the data did not tell it for sure."""
    config = parts.config
    return (
        f"{len(parts.dataset)} images, {config.method.name} with {choose_backbone(config)} on"
        f" {fabric.device.type}, {parts.steps} steps of {config.run.batch_size};"
        f" views of {config.image_size} px as of a {config.views.preset}"
        " (something else? set views.preset)"
    ) + "".join(f"; {text}" for text in (parts.left_out, _fetching(parts.dataset)) if text)


def _fetching(dataset: CanvasDataset) -> str | None:
    """Say what a remote folder, or patches, cost without a store; None if they do not."""
    if dataset.decodes_again:
        cost = "costs the decoding of a whole volume for each patch"
    elif dataset.is_remote and dataset.store is None:
        cost = "is fetched from the remote folder"
    else:
        return None
    return (
        f"what data.cache_gb does not hold {cost} in every epoch: run medssl cache once, and set"
        " data.store"
    )


def _labels(manifest: Manifest, method: MethodSection) -> Tensor | None:
    """Return the classes for a method that learns from them.

    Raises:
        ConfigError: No image has one.
    """
    if not method.uses_labels:
        return None
    labels = class_numbers(manifest.rows["label"])
    if not bool((labels >= 0).any()):
        raise ConfigError(
            f"{method.about.title} learns from labels, and none of the {len(labels)} images has"
            " one; give them to the scan (--labels, --class-folders), or take --method simclr"
        )
    return labels


def _switch_off_dropout(backbone: Backbone) -> None:
    """Leave chance to the views, which a resumed run repeats; dropout draws from global state."""
    for part in backbone.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, MBConvBlock):  # of EfficientNet
            part.drop_connect_rate = 0.0


def _statistics(
    images: HealthImages, folder: RunFolder
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Take mean and deviation from the run if it has them: images may have vanished since."""
    if not folder.encoder.with_suffix(".json").exists():
        return images.statistics()
    stored = read_encoder_description(folder.encoder)
    return tuple(stored["mean"]), tuple(stored["std"])

"""The chapter that shows what pretraining saw: augmented views beside their sources."""

import torch
from torch import Tensor

from medssl.config import PretrainConfig, ReportConfig
from medssl.errors import DataError, IngestError
from medssl.manifest import Manifest
from medssl.report import words
from medssl.report.inputs import Inputs
from medssl.report.sheets import picture, to_bytes
from medssl.run_data import image_shape, training_rows
from medssl.run_images import open_images
from medssl.view_maker import move_canvases, to_unit
from medssl.views import build_views
from sslcore.errors import ConfigError
from sslcore.report import writing
from sslcore.report.choosing import in_turns
from sslcore.report.parts import Note, Section, Sheet, Strip

_EPOCHS = 3  # two views each


def view_section(inputs: Inputs, report: ReportConfig) -> Section:
    """Return the sheet, or the reason why there is none."""
    title = "Augmented views"
    config = inputs.config
    if config is None or inputs.manifest is None:
        reason = "The configuration or the manifest of the run is missing, so no views can be made."
        return Section("views", title, (Note(reason),))
    if not inputs.has_images or config.data.canvas is None or config.data.channels == "auto":
        reason = (
            "No views can be made: the folder with the images is no longer where the manifest says,"
            " or the run ended before its configuration was complete."
        )
        return Section("views", title, (Note(reason),))
    try:
        strips = _strips(config, training_rows(inputs.manifest, config.data), report.sources)
    except (DataError, ConfigError):
        strips = ()
    if not strips:
        reason = "No views can be made: none of the chosen images can be read now."
        return Section("views", title, (Note(reason),))
    preset = config.views.preset.value
    lead = (
        f"What pretraining learnt from: preset “{preset}”, {config.image_size} px. The network had"
        " to recognise that the views of one row show the same image."
    )
    if config.data.dims == 3:
        seen = "patches of volumes" if config.data.patches else "whole volumes"
        lead += f" It saw {seen}; the pictures are their middle slices."
    if config.data.slab == 3:
        lead += " It saw each slice with those before and after it, which are not in the pictures."
    caption = (
        f"Left: the image as it is read. Right: the very views of it in the first"
        f" {writing.count(_EPOCHS, 'epoch')}, two each. If a view no longer shows what the"
        " diagnosis rests on, weaken the views: --set views.strength, views.crop_scale."
    )
    return Section("views", title, (Sheet(caption, "Image", "Views", strips),), lead)


def _strips(config: PretrainConfig, manifest: Manifest, sources: int) -> tuple[Strip, ...]:
    channels, _ = image_shape(config)
    dims, slab = config.data.dims, config.data.slab
    dataset = open_images(manifest, config, cache_gb=0)
    maker = build_views(config.views, config.views.preset, config.image_size, channels, dims=dims)
    strips = []
    for row in in_turns(manifest.rows["label"].fill_null("").to_numpy(), sources):
        try:
            pixels = move_canvases(dataset[row][None], torch.device("cpu"))
        except IngestError:
            continue
        index = torch.tensor([row])
        views = [
            maker.display(view)[0]
            for epoch in range(_EPOCHS)
            for view in maker(pixels, index, seed=config.run.seed, epoch=epoch).views
        ]
        key = words.short(manifest.rows["sample"][row])
        whole = _plane(to_unit(pixels[0]), slab).numpy()
        lead = picture(to_bytes(whole), alt=f"Image {key}", lines=(f"image {key}",))
        others = [
            picture(to_bytes(_plane(view, slab).numpy()), alt=f"View {number} of image {key}")
            for number, view in enumerate(views, start=1)
        ]
        strips.append(Strip(lead, tuple(others)))
    return tuple(strips)


def _plane(view: Tensor, slab: int) -> Tensor:
    """Return the middle slice of a volume or slab, `[channels, rows, columns]`, else the image."""
    if slab == 3:
        return view[1:2]
    return view if view.ndim == 3 else view[:, view.shape[1] // 2]

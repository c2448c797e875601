import math
from pathlib import Path

import polars as pl
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor

from medssl import view_maker
from medssl.config import Preset, ViewsConfig
from medssl.manifest import Manifest
from medssl.presets import PRESETS, PresetPlan
from medssl.transforms.base import Chain
from medssl.transforms.colour import RandColour
from medssl.transforms.geometry import RandGeometry
from medssl.transforms.stain import RandStain
from medssl.view_maker import MultiViewMaker
from medssl.views import build_views, choose_preset
from sslcore.errors import ConfigError, ShapeError
from sslcore.random import SampleRandom

GREY = (Preset.RADIOGRAPH, Preset.CT, Preset.MR)
every_preset = pytest.mark.parametrize("preset", PRESETS)


def canvases(batch: int = 5, channels: int = 3, side: int = 20) -> Tensor:
    values = torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(2))
    return (values * 65535).to(torch.uint16)


def maker(preset: Preset = Preset.PHOTOGRAPH, **options: object) -> MultiViewMaker:
    return build_views(ViewsConfig(**options), preset, 16, 3)  # type: ignore[arg-type]


def steps(made: MultiViewMaker) -> list[type]:
    assert isinstance(made.transform, Chain)
    return [type(step) for step in made.transform.transforms]


@every_preset
def test_two_views_of_the_right_shape_that_differ(preset: Preset) -> None:
    batch = maker(preset)(canvases(), torch.arange(5), seed=0, epoch=0)
    first, second = batch.views
    assert first.shape == second.shape == (5, 3, 16, 16)
    assert first.dtype == torch.float32
    assert first.isfinite().all()
    assert (first - second).abs().mean(dim=(1, 2, 3)).min() > 0.01


@every_preset
def test_grey_images_stay_grey_images(preset: Preset) -> None:
    made = build_views(ViewsConfig(), preset, 16, 1)
    batch = made(canvases(channels=1), torch.arange(5), seed=0, epoch=0)
    assert batch.views[0].shape == (5, 1, 16, 16)


def test_a_view_depends_on_index_seed_and_epoch_only() -> None:
    pixels, made = canvases(), maker()
    index = torch.tensor([3, 10, 11, 12, 40])
    whole = made(pixels, index, seed=1, epoch=2).views
    part = made(pixels[[4, 1]], index[[4, 1]], seed=1, epoch=2).views
    for view in range(2):
        torch.testing.assert_close(whole[view][[4, 1]], part[view], atol=1e-4, rtol=1e-4)
    for other in (
        made(pixels, index, seed=1, epoch=3),
        made(pixels, index, seed=2, epoch=2),
        made(pixels, index + 1, seed=1, epoch=2),
    ):
        assert (whole[0] - other.views[0]).abs().mean() > 0.01


def test_how_many_images_are_worked_on_together_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = maker()(canvases(), torch.arange(5), seed=0, epoch=0).views[0]
    monkeypatch.setattr(view_maker, "_CPU_CHUNK_BYTES", 1)
    single = maker()(canvases(), torch.arange(5), seed=0, epoch=0).views[0]
    torch.testing.assert_close(whole, single, atol=1e-4, rtol=1e-4)


def test_one_view_is_the_first_of_both() -> None:
    pixels, index, made = canvases(), torch.arange(5), maker()
    both = made(pixels, index, seed=1, epoch=2).views
    torch.testing.assert_close(made.one(pixels, index, seed=1, epoch=2), both[0])


def test_canvases_and_floats_give_the_same_views_and_are_left_alone() -> None:
    pixels = canvases()
    floats = pixels.to(torch.float32) / 65535
    kept = floats.clone()
    made = maker()
    index = torch.arange(5)
    for one, other in zip(
        made(pixels, index, seed=0, epoch=0).views,
        made(floats, index, seed=0, epoch=0).views,
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(made.plain(pixels), made.plain(floats))
    assert torch.equal(floats, kept)


def test_views_on_a_device_wait_for_no_value() -> None:
    batch = maker()(canvases().to("meta"), torch.arange(5), seed=0, epoch=0)
    assert batch.views[1].device.type == "meta"


def test_the_plain_view_is_the_whole_image_normalised() -> None:
    pixels = canvases(side=16)
    made = build_views(ViewsConfig(), Preset.CT, 16, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    unit = pixels.to(torch.float32) / 65535
    plain = made.plain(pixels)
    torch.testing.assert_close(plain[:, 1], (unit[:, 1] - 0.2) / 0.25)
    torch.testing.assert_close(made.display(plain), unit)
    assert made.plain(canvases(side=40)).shape == (5, 3, 16, 16)


def test_the_transform_works_in_a_compose() -> None:
    image = canvases()[0].to(torch.float32) / 65535
    result = Compose([maker().transform]).set_random_state(seed=0)(image)
    assert result.shape == (3, 16, 16)


@pytest.mark.parametrize("preset", GREY)
def test_radiology_is_never_mirrored_turned_over_or_coloured(preset: Preset) -> None:
    made = maker(preset)
    assert isinstance(made.transform, Chain)
    geometry = made.transform.transforms[0]
    assert isinstance(geometry, RandGeometry)
    assert geometry.horizontal_flip == geometry.vertical_flip == 0
    assert not geometry.quarter_turns
    assert not {RandColour, RandStain} & set(steps(made))
    params = geometry.sample(SampleRandom(torch.arange(200)))
    assert (torch.linalg.det(params["affine"][:, :, :2]) > 0).all()  # no mirror image


def test_histology_varies_the_dyes_and_not_the_hue() -> None:
    assert RandStain in steps(maker(Preset.HISTOLOGY))
    assert RandColour not in steps(maker(Preset.HISTOLOGY))


def test_ct_changes_density_less_than_a_radiograph() -> None:
    ct, radiograph = PRESETS[Preset.CT], PRESETS[Preset.RADIOGRAPH]
    assert ct.brightness < radiograph.brightness
    assert ct.contrast < radiograph.contrast
    assert ct.gamma < radiograph.gamma


def test_every_preset_has_a_plan_and_reasons() -> None:
    assert set(PRESETS) == set(Preset) - {Preset.AUTO}
    for plan in PRESETS.values():
        assert isinstance(plan, PresetPlan)
        assert len(plan.why.split()) > 10


def test_strength_0_leaves_the_geometry() -> None:
    assert steps(maker(strength=0)) == [RandGeometry]


def test_strength_widens_the_changes() -> None:
    pixels, index = canvases(side=16).repeat(8, 1, 1, 1), torch.arange(40)
    whole = {"crop_scale": (1.0, 1.0), "rotation": 0.0, "horizontal_flip": 0.0}
    spread = []
    for strength in (0.3, 1.0, 2.0):
        made = maker(strength=strength, **whole)
        view = made(pixels, index, seed=0, epoch=0).views[0]
        spread.append(float((view - made.plain(pixels)).abs().mean()))
    assert spread[0] < spread[1] < spread[2]


def test_the_configuration_goes_before_the_preset() -> None:
    config = ViewsConfig(
        preset=Preset.HISTOLOGY, crop_scale=(0.5, 0.6), vertical_flip=0.1, rotation=3
    )
    made = build_views(config, Preset.CT, 16, 3)
    assert RandStain in steps(made)
    assert isinstance(made.transform, Chain)
    geometry = made.transform.transforms[0]
    assert isinstance(geometry, RandGeometry)
    assert geometry.crop_scale == (0.5, 0.6)
    assert (geometry.vertical_flip, geometry.rotation) == (0.1, 3)
    assert geometry.horizontal_flip == PRESETS[Preset.HISTOLOGY].horizontal_flip


@pytest.mark.parametrize("scale", [(-1, 1), (0, 1), (0.8, 0.2), (0.5, 1.5), (math.nan, 1)])
def test_a_crop_that_is_no_part_of_the_image_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="crop_scale: expected 0 < low <= high <= 1"):
        ViewsConfig(crop_scale=scale)


def test_an_undecided_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"views\.preset is auto"):
        build_views(ViewsConfig(), Preset.AUTO, 16, 1)


def test_images_with_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \[batch, 3, side, side\], got \(5, 1"):
        maker()(canvases(channels=1), torch.arange(5), seed=0, epoch=0)


def manifest(*rows: tuple[str, str, str | None, int]) -> Manifest:
    columns = ("path", "kind", "modality", "channels")
    return Manifest(pl.DataFrame(rows, schema=columns, orient="row"), Path())


@pytest.mark.parametrize(
    ("rows", "preset"),
    [
        ([("a", "dicom", "CT", 1), ("b", "dicom", "CT", 1), ("c", "dicom", "MR", 1)], Preset.CT),
        ([("a", "dicom", "MR", 1)], Preset.MR),
        ([("a", "dicom", "DX", 1)], Preset.RADIOGRAPH),
        ([("a", "dicom", "SM", 3)], Preset.HISTOLOGY),
        ([("a", "dicom", "??", 1)], Preset.RADIOGRAPH),
        ([("x/pathmnist.npz", "npz", None, 3)], Preset.HISTOLOGY),
        ([("x/bloodmnist_64.npz", "npz", None, 3)], Preset.MICROSCOPY),
        ([("x/pneumoniamnist.npz", "npz", None, 1)], Preset.RADIOGRAPH),
        ([("a.png", "png", None, 3)], Preset.PHOTOGRAPH),
        ([("a.png", "png", None, 1)], Preset.RADIOGRAPH),
        ([("x/pathmnist.png", "png", None, 3)], Preset.PHOTOGRAPH),
        ([("a", "dicom", "MR", 1), ("b", "dicom", "CT", 1)], Preset.CT),
        ([("b", "dicom", "CT", 1), ("a", "dicom", "MR", 1)], Preset.CT),
        ([], Preset.RADIOGRAPH),
    ],
)
def test_the_preset_follows_modality_archive_and_colour(
    rows: list[tuple[str, str, str | None, int]], preset: Preset
) -> None:
    assert choose_preset(manifest(*rows)) is preset


def test_samples_keep_their_ids_and_change_their_keys_from_epoch_to_epoch() -> None:
    index = torch.tensor([3, 0, 7, 9, 1])
    first, second = (maker()(canvases(), index, seed=0, epoch=epoch) for epoch in (0, 1))
    assert first.ids is not None
    assert second.ids is not None
    assert first.ids.tolist() == second.ids.tolist() == index.tolist()
    assert first.keys is not None
    assert second.keys is not None
    assert not torch.equal(first.keys, second.keys)

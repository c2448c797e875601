"""Normalisation of stains: known dyes, the reference, and images that cannot be measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from monai.transforms import Compose
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import nnls

from medssl.config import StainMethod
from medssl.encoder import load_encoder, open_dataset
from medssl.manifest import read_manifest
from medssl.pretrain import pretrain
from medssl.run_data import resolve
from medssl.transforms import stain_normalisation as module
from medssl.transforms.stain_normalisation import NormalizeStain
from sslcore.errors import ConfigError
from tests.medssl.tiny_run import tiny_config, use_tiny_backbone, write_tiny_data

Floats = NDArray[np.float64]
REFERENCE = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
OTHER = np.array([[0.74, 0.30], [0.60, 0.88], [0.30, 0.36]])  # another laboratory's dyes
METHODS: tuple[StainMethod, ...] = ("macenko", "vahadane", "reinhard")


def amounts(seed: int = 0, side: int = 48) -> Floats:
    """Return amounts of two dyes, some pixels of one alone, of which 1 % exceed the reference's."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(0.75, 1, (2, side * side))
    found[0, : side * 12] = 0
    found[1, side * 12 : side * 24] = 0
    most = np.percentile(found, 99, axis=1)
    return found * (np.array([1.9705, 1.0308]) / most)[:, None]


def section(dyes: Floats, of_each: Floats) -> torch.Tensor:
    """Return the image that light of 240 leaves, 0 to 1; the reference counts from 1."""
    dyes = dyes / np.linalg.norm(dyes, axis=0)
    values = 240 * np.exp(-dyes @ of_each) - 1
    side = int(np.sqrt(of_each.shape[1]))
    return torch.from_numpy(values / 255).float().view(3, side, side)


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
@pytest.mark.parametrize("strength", [(1.0, 1.0), (0.6, 0.9), (1.3, 0.8)])
def test_the_same_section_of_another_laboratory_becomes_that_of_the_reference(
    method: StainMethod, strength: tuple[float, float]
) -> None:
    wanted = section(REFERENCE, amounts())
    given = section(OTHER, amounts() * np.array(strength)[:, None])
    changed = NormalizeStain(method)(given)
    before, after = ((image - wanted).abs().mean() * 255 for image in (given, changed))
    assert after < 4 < 10 < before


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_the_direction_that_the_library_gives_eigenvectors_does_not_matter(
    method: StainMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = section(OTHER, amounts())
    once = NormalizeStain(method)(image)
    original = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda m: _turned(original(m), (-1, -1, -1)))
    torch.testing.assert_close(NormalizeStain(method)(image), once)
    monkeypatch.setattr(np.linalg, "eigh", lambda m: _turned(original(m), (1, -1, 1)))
    torch.testing.assert_close(NormalizeStain(method)(image), once)


def _turned(found: Any, signs: tuple[int, ...]) -> tuple[Floats, Floats]:
    return found[0], found[1] * np.array(signs)


def test_macenko_is_monais_but_for_which_dye_is_which_and_where_eigenvectors_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = (section(OTHER, amounts()) * 255).round().numpy()
    ours = NormalizeStain("macenko")(torch.from_numpy(values / 255)) * 255
    original = np.linalg.eigh

    def upright(matrix: Floats) -> tuple[Floats, Floats]:
        found = original(matrix)
        return found[0], found[1] * np.where(found[1].sum(axis=0) < 0, -1, 1)

    monkeypatch.setattr(np.linalg, "eigh", upright)
    turned = NormalizeHEStains(target_he=REFERENCE[:, ::-1], max_cref=(1.0308, 1.9705))
    theirs = turned(values.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert np.abs(ours.numpy() + 0.5 - theirs).max() < 1.5  # it starts at 1, and cuts off decimals


def test_amounts_are_the_best_that_are_not_negative() -> None:
    dyes = OTHER / np.linalg.norm(OTHER, axis=0)
    density = np.random.default_rng(0).normal(0.3, 0.6, (3, 200))
    found = module._positive_amounts(dyes, density)
    # half the squared error + weight * sum is, up to a constant, half of that of longer columns
    tail = 1e-4
    longer = np.vstack([dyes, np.full((1, 2), tail)])
    for column, pixel in zip(found.T, density.T, strict=True):
        expected, _ = nnls(longer, np.append(pixel, -0.1 / tail))
        np.testing.assert_allclose(column, expected, atol=1e-5)


def test_reinhard_gives_mean_and_deviation_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    shift = np.array([[0.9], [0.4], [0.6]])
    values = module._reinhard(255 * rng.uniform(0.1, 0.4, (3, 1600)) * shift)
    assert values is not None  # not yet cut off to what an image can show
    lms = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    long, middle, short = np.log(lms @ values)
    lab = (
        (long + middle + short) / np.sqrt(3),
        (long + middle - 2 * short) / np.sqrt(6),
        (long - middle) / np.sqrt(2),
    )
    means, deviations = [part.mean() for part in lab], [part.std() for part in lab]
    np.testing.assert_allclose(means, [8.74108109, -0.12440419, 0.0444982], atol=1e-4)
    np.testing.assert_allclose(deviations, [0.6135447, 0.10989545, 0.0286032], atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_measured_stays_as_it_is(method: StainMethod) -> None:
    glass = torch.full((3, 32, 32), 0.97)
    torch.testing.assert_close(NormalizeStain(method)(glass), glass)
    even = torch.tensor([0.5, 0.3, 0.6]).view(3, 1, 1).expand(3, 32, 32)
    torch.testing.assert_close(NormalizeStain(method)(even), even)
    black = torch.zeros(3, 32, 32)
    torch.testing.assert_close(NormalizeStain(method)(black), black)


@pytest.mark.parametrize("method", METHODS)
def test_grey_images_do_not_get_colours(method: StainMethod) -> None:
    grey = torch.linspace(0, 1, 900).view(1, 30, 30).expand(3, 30, 30)
    torch.testing.assert_close(NormalizeStain(method)(grey), grey)


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_a_section_of_nearly_one_dye_stays_as_it_is(method: StainMethod) -> None:
    alone = amounts()
    alone[1] *= 0.05
    image = section(OTHER, alone)
    torch.testing.assert_close(NormalizeStain(method)(image), image)


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
def test_a_section_of_one_dye_stays_as_it_is(method: StainMethod) -> None:
    alone = amounts()
    alone[1] = 0
    alone[0] += 0.5
    image = section(OTHER, alone)
    torch.testing.assert_close(NormalizeStain(method)(image), image)


@pytest.mark.parametrize("method", METHODS)
def test_it_stands_in_a_compose_and_stays_within_0_and_1(method: StainMethod) -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    found = Compose([NormalizeStain(method)])(image)
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    assert 0 <= found.min() <= found.max() <= 1


def test_an_encoder_reads_images_as_it_learnt_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_backbone(monkeypatch)
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "site.key"))
    (tmp_path / "d").mkdir()
    for number in range(8):
        values = section(OTHER, amounts(number)).mul(255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(values).save(tmp_path / "d" / f"{number}.png")
    config = tiny_config(tmp_path / "d", "run.steps=1", "data.stain=macenko", "data.channels=3")
    pretrain(config, tmp_path / "run")
    spec = load_encoder(tmp_path / "run").spec
    assert spec.stain == "macenko"
    manifest = read_manifest(tmp_path / "run" / "manifest.parquet")
    canvas, plain = (
        open_dataset(manifest, each, cache_gb=0)[0].float() / 65535
        for each in (spec, replace(spec, stain=None))
    )
    torch.testing.assert_close(canvas, NormalizeStain("macenko")(plain), atol=1e-4, rtol=0)
    assert (canvas - plain).abs().mean() > 0.02


def test_stains_are_of_images_in_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_backbone(monkeypatch)
    data = write_tiny_data(tmp_path)
    with pytest.raises(ConfigError, match="not for images without colour; leave it out"):
        pretrain(tiny_config(data, "data.stain=macenko"), tmp_path / "run")
    manifest = read_manifest(data)
    volumes = replace(manifest, slices=manifest.rows)
    config = tiny_config(data, "data.stain=macenko", "data.dims=3", "data.channels=3")
    with pytest.raises(ConfigError, match="not for volumes; leave it out"):
        resolve(config, volumes)

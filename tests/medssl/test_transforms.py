import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import Tensor

from medssl.transforms import blur, intensity, noise
from medssl.transforms.base import BatchedTransform, Chain
from medssl.transforms.bias_field import RandBiasField
from medssl.transforms.blur import RandGaussianBlur, RandSharpness, gaussian_weights
from medssl.transforms.colour import RandColour
from medssl.transforms.geometry import RandGeometry
from medssl.transforms.intensity import RandBrightnessContrast, RandGamma
from medssl.transforms.noise import RandGaussianNoise
from medssl.transforms.stain import RandStain
from sslcore.random import SampleRandom

TRANSFORMS: dict[str, BatchedTransform] = {
    "geometry": RandGeometry(16, horizontal_flip=0.5, vertical_flip=0.5, rotation=30),
    "geometry, shrinking": RandGeometry(8, quarter_turns=True, rotation=10),
    "brightness and contrast": RandBrightnessContrast(),
    "gamma": RandGamma(prob=0.5),
    "blur": RandGaussianBlur(high=1.5),
    "sharpness": RandSharpness(prob=0.5),
    "noise": RandGaussianNoise(prob=0.5),
    "bias field": RandBiasField(),
    "colour": RandColour(grey=0.3),
    "stain": RandStain(prob=0.5),
}
TRANSFORMS["chain"] = Chain(*TRANSFORMS.values())
SAMEWHERE = [name for name in TRANSFORMS if "geometry" not in name and name != "chain"]

every_transform = pytest.mark.parametrize("name", TRANSFORMS)


def images(batch: int = 6, channels: int = 3, side: int = 24) -> Tensor:
    return torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def keys(batch: int = 6) -> Tensor:
    return torch.arange(batch) * 7919 + 5


@every_transform
def test_a_row_does_not_depend_on_the_other_rows(name: str) -> None:
    transform, batch = TRANSFORMS[name], images()
    together = transform.batch(batch, SampleRandom(keys()))
    for row, key in enumerate(keys()):
        alone = transform.batch(batch[row : row + 1], SampleRandom(key[None]))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-5)


@every_transform
def test_equal_parameters_give_equal_results(name: str) -> None:
    transform, batch = TRANSFORMS[name], images()
    params = transform.sample(SampleRandom(keys()))
    order = torch.tensor([4, 1, 5])
    chosen = transform.apply(batch[order], {key: values[order] for key, values in params.items()})
    torch.testing.assert_close(transform.apply(batch, params)[order], chosen, atol=1e-5, rtol=1e-5)


@every_transform
def test_in_a_compose_it_does_what_it_does_in_a_batch(name: str) -> None:
    transform, image = TRANSFORMS[name], images()[0]
    pipeline = Compose([transform]).set_random_state(seed=3)
    first, second = pipeline(image), pipeline(image)
    pipeline.set_random_state(seed=3)
    torch.testing.assert_close(pipeline(image), first, rtol=0, atol=0)

    transform.set_random_state(state=np.random.RandomState(11))
    single = transform(image)
    transform.set_random_state(state=np.random.RandomState(11))
    transform.randomize()
    expected = transform.batch(image[None], SampleRandom(torch.tensor([transform._key])))[0]
    torch.testing.assert_close(single, expected, rtol=0, atol=0)
    assert first.shape == second.shape


@every_transform
def test_it_does_not_look_at_values_on_a_device(name: str) -> None:
    # On the meta device there are no values: asking for one, as .item() does, is an error.
    result = TRANSFORMS[name].batch(images().to("meta"), SampleRandom(keys().to("meta")))
    assert result.device.type == "meta"
    assert result.shape[:2] == (6, 3)


@every_transform
def test_the_input_stays_as_it_was(name: str) -> None:
    batch = images()
    TRANSFORMS[name].batch(batch, SampleRandom(keys()))
    assert torch.equal(batch, images())


@every_transform
def test_samples_differ(name: str) -> None:
    many = images(1).expand(16, -1, -1, -1)
    results = TRANSFORMS[name].batch(many, SampleRandom(keys(16)))
    assert results.std(dim=0).mean() > 1e-4


@pytest.mark.parametrize("name", SAMEWHERE)
def test_values_stay_between_0_and_1(name: str) -> None:
    batch = torch.cat([images(), torch.zeros(1, 3, 24, 24), torch.ones(1, 3, 24, 24)])
    result = TRANSFORMS[name].batch(batch, SampleRandom(keys(8)))
    assert result.isfinite().all()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize(
    "transform",
    [
        RandBrightnessContrast(prob=0),
        RandGamma(prob=0),
        RandGaussianBlur(prob=0),
        RandSharpness(prob=0),
        RandGaussianNoise(prob=0),
        RandBiasField(prob=0),
        RandColour(prob=0, grey=0),
        RandStain(prob=0),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_with_probability_0_nothing_changes(transform: BatchedTransform) -> None:
    batch = images().clamp(min=1 / 255)
    result = transform.batch(batch, SampleRandom(keys()))
    torch.testing.assert_close(result, batch, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "name"),
    [(intensity, "gamma"), (blur, "blur"), (blur, "sharpness"), (noise, "noise")],
    ids=["gamma", "blur", "sharpness", "noise"],
)
def test_working_on_chosen_rows_equals_working_on_all(
    module: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, batch = TRANSFORMS[name], images()
    params = transform.sample(SampleRandom(keys()))
    chosen = transform.apply(batch, params)

    def on_all(
        change: Callable[..., Tensor], rows: Tensor, applied: Tensor, *values: Tensor
    ) -> Tensor:
        assert 0 < applied.sum() < len(applied)
        return change(rows, *values)

    monkeypatch.setattr(module, "change_rows", on_all)
    torch.testing.assert_close(transform.apply(batch, params), chosen, atol=1e-5, rtol=1e-5)


def test_contrast_turns_about_the_mean_and_brightness_shifts() -> None:
    batch = images() * 0.2 + 0.4
    params = {"factor": torch.full((6,), 0.5), "shift": torch.full((6,), 0.1)}
    result = RandBrightnessContrast().apply(batch, params)
    mean = batch.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(result, (batch - mean) * 0.5 + mean + 0.1)


def test_gamma_is_a_power() -> None:
    batch = images()
    batch[0, 0, 0, 0] = 0
    gamma = torch.tensor([0.7, 1.5, 1.0, 2.0, 0.5, 1.1])
    result = RandGamma().apply(batch, {"gamma": gamma})
    torch.testing.assert_close(
        result, batch.double().pow(gamma[:, None, None, None]).float(), atol=1e-5, rtol=1e-4
    )


def test_blur_is_the_convolution_written_out() -> None:
    batch, sigma = images(2, 2, 9), torch.tensor([0.8, 1.4])
    transform = RandGaussianBlur(high=1.4)
    result = transform.apply(batch, {"sigma": sigma})
    radius = transform.radius
    for row, column in ((0, 0), (4, 5), (8, 3)):
        for sample in range(2):
            total, value = 0.0, 0.0
            for dy in range(-radius, radius + 1):
                for dx in range(-radius, radius + 1):
                    weight = math.exp(-(dx * dx + dy * dy) / (2 * float(sigma[sample]) ** 2))
                    y, x = min(max(row + dy, 0), 8), min(max(column + dx, 0), 8)
                    total += weight
                    value += weight * float(batch[sample, 1, y, x])
            assert float(result[sample, 1, row, column]) == pytest.approx(value / total, abs=1e-5)


def test_sigma_0_is_exactly_no_blur() -> None:
    assert gaussian_weights(torch.zeros(1), 2).tolist() == [[0, 0, 1, 0, 0]]


def test_sharpening_widens_an_edge_and_keeps_a_plane() -> None:
    edge = torch.full((1, 1, 8, 8), 0.4)
    edge[..., 4:] = 0.6
    result = RandSharpness().apply(edge, {"amount": torch.ones(1)})
    assert result[0, 0, 4, 4] - result[0, 0, 4, 3] == pytest.approx(0.2 + 2 * 0.05, abs=1e-5)
    plane = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(RandSharpness().apply(plane, {"amount": torch.ones(1)}), plane)


def test_noise_has_the_strength_it_should_and_is_new_for_each_sample() -> None:
    grey = torch.full((8, 1, 64, 64), 0.5)
    params = {"std": torch.full((8,), 0.05), "place": torch.linspace(0, 1, 8)}
    added = RandGaussianNoise().apply(grey, params) - grey
    assert added.std(dim=(1, 2, 3)).tolist() == pytest.approx([0.05] * 8, rel=0.05)
    assert added.mean(dim=(1, 2, 3)).abs().max() < 0.004
    correlation = torch.corrcoef(added.flatten(1)) - torch.eye(8)
    assert correlation.abs().max() < 0.08


def test_noise_grows_its_table_for_large_images() -> None:
    grey = torch.full((1, 3, 700, 700), 0.5)
    params = {"std": torch.tensor([0.1]), "place": torch.tensor([0.99999994])}
    assert RandGaussianNoise().apply(grey, params).std() == pytest.approx(0.1, rel=0.05)


def test_a_bias_field_is_smooth_and_changes_the_mean_of_no_region_by_much() -> None:
    plane = torch.full((16, 1, 32, 32), 0.4)
    field = RandBiasField(strength=0.2, prob=1).batch(plane, SampleRandom(keys(16))) / 0.4
    steps = field.diff(dim=-1).abs().amax(dim=(1, 2, 3)) / field.amax(dim=(1, 2, 3))
    assert steps.max() < 0.12
    assert field.std(dim=(1, 2, 3)).min() > 0.01


def test_grey_pixels_have_no_hue_to_turn() -> None:
    grey = images(6, 1).expand(-1, 3, -1, -1).clone()
    result = RandColour(prob=1).batch(grey, SampleRandom(keys()))
    torch.testing.assert_close(result, grey, atol=1e-4, rtol=1e-4)


def test_colour_changes_keep_the_brightness() -> None:
    batch = images() * 0.2 + 0.4
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    result = RandColour(prob=1, grey=0.5).batch(batch, SampleRandom(keys()))
    torch.testing.assert_close(
        (result * luma).sum(dim=1), (batch * luma).sum(dim=1), atol=1e-4, rtol=1e-4
    )


def test_grey_takes_all_colour() -> None:
    result = RandColour(grey=1).batch(images(), SampleRandom(keys()))
    assert (result.amax(dim=1) - result.amin(dim=1)).max() < 1e-4


def test_stain_scales_the_dye_and_not_its_colour() -> None:
    dye = torch.tensor([0.65, 0.70, 0.29])
    dye = dye / dye.norm()
    pure = torch.exp(-torch.tensor([0.2, 0.5, 0.9])[:, None] * dye)[:, :, None, None]
    result = RandStain(strength=0.3, prob=1).batch(pure, SampleRandom(torch.tensor([1, 2, 3])))
    transform = RandStain(strength=0.3, prob=1)
    params = transform.sample(SampleRandom(torch.tensor([1, 2, 3])))
    params["shift"] = torch.zeros_like(params["shift"])
    density = -transform.apply(pure, params).flatten(1).log()
    cosine = torch.nn.functional.cosine_similarity(density, dye.expand(3, -1))
    assert cosine.min() > 0.9999
    factor = density.norm(dim=1) / torch.tensor([0.2, 0.5, 0.9])
    assert ((factor > 0.7) & (factor < 1.3)).all()
    assert (result - pure).abs().max() > 1e-3


def test_a_chain_names_parameters_by_place() -> None:
    chain = Chain(RandGamma(), RandGaussianNoise())
    assert set(chain.sample(SampleRandom(keys()))) == {"0.gamma", "1.std", "1.place"}

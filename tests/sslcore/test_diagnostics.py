"""Signs of collapse: right at both ends, silent on the untrained, loud on the collapsed."""

import math

import pytest
import torch
from monai.networks.nets import resnet18
from torch import Tensor, nn

from sslcore.diagnostics import (
    CollapseGuard,
    Health,
    alignment,
    effective_rank,
    measure_health,
    spread,
    uniformity,
)
from sslcore.errors import CollapseError, ShapeError
from sslcore.methods.method import StepOutput, two_views
from sslcore.methods.simsiam import SimSiam
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.objectives.regression import negative_cosine
from sslcore.views import ViewBatch
from tests.reference.contrastive import cosine
from tests.reference.waves import degenerate, pair, wave


def noise(rows: int, dim: int) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dim", [2, 64, 512])
def test_spread_is_one_for_isotropic_and_zero_for_equal_rows(dim: int) -> None:
    z = noise(2000, dim)
    assert spread(z).item() == pytest.approx(1, abs=0.01)
    assert spread(z[:1].repeat(50, 1)).item() == pytest.approx(0, abs=1e-6)


def test_spread_is_the_part_of_the_length_that_the_mean_lacks() -> None:
    z = wave(8, 6, 0.0)
    units = z / z.norm(dim=1, keepdim=True)
    expected = math.sqrt(1 - units.mean(dim=0).square().sum().item())
    assert spread(z).item() == pytest.approx(expected)
    assert spread(100 * z).item() == pytest.approx(expected)


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_effective_rank_counts_equal_directions(rank: int) -> None:
    corners = torch.cat([torch.eye(rank, 16), -torch.eye(rank, 16)])
    assert effective_rank(corners + 7).item() == pytest.approx(rank, rel=1e-4)


def test_effective_rank_is_zero_for_equal_rows_whatever_the_rounding() -> None:
    assert effective_rank(torch.zeros(8, 4)) == 0
    assert effective_rank(noise(1, 64).repeat(100, 1) * 1e3) == 0
    nearly = noise(1, 64).repeat(100, 1) + 1e-8 * noise(100, 64)
    assert effective_rank(nearly) < 1.5


def test_effective_rank_matches_the_entropy_written_out() -> None:
    z = wave(8, 6, 0.0)
    values = torch.linalg.svdvals(z - z.mean(dim=0)).tolist()
    shares = [value / sum(values) for value in values]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(z).item() == pytest.approx(expected)


def test_alignment_is_the_mean_squared_distance_of_partners() -> None:
    z_a, z_b = pair((7, 4), seed=0)
    gaps = [2 - 2 * cosine(a, b) for a, b in zip(z_a.tolist(), z_b.tolist(), strict=True)]
    assert alignment(z_a, z_b).item() == pytest.approx(sum(gaps) / 7)
    assert alignment(z_a, 3 * z_a).item() == pytest.approx(0, abs=1e-12)
    assert alignment(z_a, -z_a).item() == pytest.approx(4)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_uniformity_matches_all_pairs_written_out_whatever_the_blocks(block: int) -> None:
    rows = pair((7, 4), seed=0)[0]
    potentials = [
        math.exp(-2 * (2 - 2 * cosine(a, b)))
        for i, a in enumerate(rows.tolist())
        for b in rows.tolist()[i + 1 :]
    ]
    expected = math.log(sum(potentials) / len(potentials))
    assert uniformity(rows, block=block).item() == pytest.approx(expected)


def test_uniformity_is_zero_at_collapse_and_minus_four_at_right_angles() -> None:
    assert uniformity(torch.ones(8, 4)).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.eye(8)).item() == pytest.approx(-4)


@pytest.mark.parametrize("measure", [spread, effective_rank, uniformity])
def test_measures_are_finite_at_the_edge_and_need_two_rows(measure) -> None:
    for name, (z, _) in degenerate().items():
        assert measure(z).isfinite(), name
    for shape in [(1, 4), (4,)]:
        with pytest.raises(ShapeError, match="batch > 1, dim"):
            measure(torch.zeros(shape))


def test_a_measurement_has_each_number_and_projections_only_if_given() -> None:
    z_a, z_b = pair((16, 4), seed=0)
    bare = measure_health(z_a, (z_a, z_b))
    assert (bare.projection_spread, bare.projection_rank) == (None, None)
    full = measure_health(z_a, (z_a, z_b), z_a)
    assert full.projection_spread == full.spread == pytest.approx(spread(z_a).item())
    assert full.projection_rank == full.effective_rank == pytest.approx(effective_rank(z_a).item())
    assert full.alignment == pytest.approx(alignment(z_a, z_b).item())
    assert full.uniformity == pytest.approx(uniformity(z_a).item())


GOOD = Health(spread=0.5, effective_rank=30, alignment=0.1, uniformity=-1)


@pytest.mark.parametrize(
    ("bad", "sign"),
    [
        (Health(0.04, 30, 0.1, -1), "spread 0.04 < 0.05"),
        (Health(0.5, 2.5, 0.1, -1), "effective rank 2.5 < 3"),
        (Health(0.5, 30, 0.1, -1, projection_spread=0.01), "spread of the projections 0.01"),
        (Health(0.5, 30, 0.1, -1, projection_rank=1.2), "rank of the projections 1.2"),
        (Health(math.nan, 30, 0.1, -1), "spread nan"),
    ],
)
def test_guard_warns_at_the_first_sign_and_stops_after_its_patience(bad: Health, sign: str) -> None:
    guard = CollapseGuard(patience=2)
    assert guard.check(GOOD) is None
    warning = guard.check(bad)
    assert warning is not None
    assert sign in warning
    assert guard.check(bad) is None
    with pytest.raises(CollapseError, match=rf"{sign}.*; try a lower learning rate.*vicreg"):
        guard.check(bad)


def test_a_good_check_renews_the_patience() -> None:
    guard, bad = CollapseGuard(patience=1), Health(0.01, 30, 0.1, -1)
    guard.check(GOOD)
    for _ in range(5):
        assert guard.check(bad)
        assert guard.check(GOOD) is None


def test_guard_goes_on_with_the_reference_of_an_earlier_run() -> None:
    small = Health(0.01, 30, 0.1, -1)
    assert CollapseGuard().check(small) is None
    assert CollapseGuard(reference=GOOD).check(small)


class Unguarded(SimSiam):
    """SimSiam without its stop-gradient: the textbook way to collapse."""

    def forward(self, batch: ViewBatch[Tensor]) -> StepOutput:
        z_a, z_b = (self.student(view) for view in two_views(batch))
        p_a, p_b = self.predictor(z_a), self.predictor(z_b)
        return StepOutput((negative_cosine(p_a, z_b) + negative_cosine(p_b, z_a)) / 2)


def measured(method: SimSiam, seed: int = 0) -> Health:
    method.eval()
    with torch.no_grad():
        h_a, h_b = (method.encoder(view) for view in views(seed))
        health = measure_health(h_a, (h_a, h_b), method.student.head(h_a))
    method.train()
    return health


def views(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 16, generator=generator)
    noise_a, noise_b = 0.5 * torch.randn(2, 64, 16, generator=generator)
    return x + noise_a, x + noise_b


def run(kind: type[SimSiam], guard: CollapseGuard, *, norm: bool) -> list[str]:
    torch.manual_seed(0)
    layers = [nn.Linear(16, 64), nn.BatchNorm1d(64) if norm else nn.Identity(), nn.ReLU()]
    head = projection_mlp([64, 64, 32], hidden_norm=norm, final_norm=norm)
    predictor = projection_mlp([32, 16, 32], hidden_norm=norm)
    method = kind(Branch(nn.Sequential(*layers), head), predictor)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    warnings = []
    for step in range(100):
        if step % 10 == 0:
            warnings.append(guard.check(measured(method)))
        optimizer.zero_grad()
        method(ViewBatch(views(step + 1))).loss.backward()
        optimizer.step()
    return [warning for warning in warnings if warning]


def test_simsiam_without_stop_gradient_is_stopped() -> None:
    # Without batch norm, which alone slows the collapse down to a loss of dimensions.
    with pytest.raises(CollapseError, match="spread of the projections"):
        run(Unguarded, CollapseGuard(), norm=False)


def test_simsiam_as_published_runs_to_its_end_without_a_warning() -> None:
    assert run(SimSiam, CollapseGuard(), norm=True) == []


@pytest.mark.slow
def test_an_untrained_network_on_grey_images_is_no_collapse() -> None:
    torch.manual_seed(0)
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    network.fc = nn.Identity()
    network.eval()
    generator = torch.Generator().manual_seed(0)
    grey = 0.5 + 0.05 * torch.randn(24, 1, 1, 1, generator=generator).expand(24, 1, 32, 32)
    guard = CollapseGuard(patience=0)
    for _ in range(3):
        images = grey + 0.02 * torch.randn(24, 1, 32, 32, generator=generator)
        with torch.no_grad():
            z_a, z_b = network(images), network(images.flip(3))
        cosines = nn.functional.cosine_similarity(z_a, z_a.roll(1, 0))
        assert cosines.min() > 0.9
        assert guard.check(measure_health(z_a, (z_a, z_b))) is None

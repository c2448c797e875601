"""SIGReg: parity with the integral written out, invariances, both ends, errors, precision."""

import cmath
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.methods.lejepa import LeJepa, LeJepaConfig
from sslcore.modules.branch import Branch
from sslcore.objectives.sigreg import sigreg_loss
from sslcore.views import ViewBatch
from tests.reference.checks import assert_autocast_changes_nothing
from tests.reference.waves import wave

sizes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))


def lines(dim: int, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(dim, count, generator=generator, dtype=torch.float64), dim=0)


def by_hand(z: list[list[float]], columns: list[list[float]]) -> float:
    """The statistic of section 4.2, with all 17 points and complex numbers."""
    step, total = 10 / 16, 0.0
    for column in columns:
        values = [sum(a * b for a, b in zip(row, column, strict=True)) for row in z]
        for k in range(17):
            t = -5 + k * step
            normal = math.exp(-t * t / 2)
            found = sum(cmath.exp(1j * t * value) for value in values) / len(values)
            part = abs(found - normal) ** 2 * normal * step
            total += part / 2 if k in (0, 16) else part
    return len(z) * total / len(columns)


@given(sizes, st.floats(0.1, 3.0))
def test_the_value_is_that_of_the_integral_written_out(
    size: tuple[int, int, int], scale: float
) -> None:
    rows, dim, count = size
    z, columns = scale * wave(rows, dim, 0.4), lines(dim, count)
    expected = by_hand(z.tolist(), columns.T.tolist())
    assert sigreg_loss(z, columns).item() == pytest.approx(expected, rel=1e-10)


def test_normal_rows_give_what_chance_gives_and_others_grow_with_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))  # of the statistic; 1.06
    for rows in (20, 500):
        normal = torch.randn(100, rows, 64, generator=generator, dtype=torch.float64)
        values = [sigreg_loss(each, lines(64, 100, seed)) for seed, each in enumerate(normal)]
        assert torch.stack(values).mean().item() == pytest.approx(expected, rel=0.05)
    for bad in (torch.zeros(1, 64), 3 * torch.ones(1, 64), torch.full((1, 64), 1e6)):
        few, many = (
            sigreg_loss(bad.double().expand(rows, -1), lines(64, 500)).item() for rows in (50, 2000)
        )
        assert many == pytest.approx(40 * few)
        assert few > 10 * expected


def test_order_of_rows_sign_and_a_common_turn_change_nothing() -> None:
    z, columns = wave(6, 4, 0.3), lines(4, 3)
    turn, _ = torch.linalg.qr(wave(4, 4, 0.7))
    value = sigreg_loss(z, columns)
    torch.testing.assert_close(sigreg_loss(z.flip(0), columns), value)
    torch.testing.assert_close(sigreg_loss(-z, columns), value)
    torch.testing.assert_close(sigreg_loss(z @ turn, turn.T @ columns), value)


def test_the_gradient_is_that_of_the_differences_and_leads_out_of_a_heap() -> None:
    columns = lines(3, 4)
    assert gradcheck(lambda z: sigreg_loss(z, columns), wave(5, 3, 0.5).requires_grad_())
    z = (1e-3 * wave(64, 8, 0.5)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for step in range(200):
        optimizer.zero_grad()
        sigreg_loss(z, lines(8, 64, seed=step)).backward()
        optimizer.step()
    assert z.detach().std(dim=0).mean().item() == pytest.approx(1, abs=0.15)
    assert z.detach().T.corrcoef().fill_diagonal_(0).abs().max() < 0.5


def test_autocast_changes_nothing_and_hostile_rows_stay_finite() -> None:
    assert_autocast_changes_nothing(lambda z_a, _: sigreg_loss(z_a, lines(32, 8).float()))
    columns = lines(4, 8).float()
    for z in (torch.zeros(3, 4), torch.ones(1, 4), torch.full((3, 4), 1e30), torch.eye(4) * 1e4):
        given_z = z.clone().requires_grad_()
        loss = sigreg_loss(given_z, columns)
        loss.backward()
        assert loss.isfinite()
        assert given_z.grad is not None
        assert given_z.grad.isfinite().all()


@pytest.mark.parametrize(
    ("z", "columns"),
    [((4,), (4, 2)), ((3, 4), (3, 2)), ((0, 4), (4, 2)), ((3, 4), (4, 0)), ((3, 4), (4,))],
)
def test_shapes_that_do_not_fit_are_refused(z: tuple[int, ...], columns: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        sigreg_loss(torch.ones(z), torch.ones(columns))


def test_the_method_is_the_algorithm_written_out() -> None:
    views = tuple(wave(6, 4, shift) for shift in (0.1, 0.5, 0.9))
    method = LeJepa(Branch(torch.nn.Identity(), torch.nn.Identity()), weight=0.3, directions=5)
    columns = method._draw(views[0])
    center = (views[0] + views[1]) / 2
    agreement = sum(((view - center) ** 2).mean() for view in views) / 3
    normality = sum(by_hand(view.tolist(), columns.T.tolist()) for view in views) / 3
    loss = method(ViewBatch(views)).loss.item()
    assert loss == pytest.approx(0.7 * agreement.item() + 0.3 * normality, rel=1e-10)


def test_the_method_loses_nothing_under_autocast_where_views_nearly_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(64, 16, generator=generator)
    views = tuple(
        (z + 0.01 * torch.randn(64, 16, generator=generator)).bfloat16() for _ in range(3)
    )
    method = LeJepa(Branch(torch.nn.Identity(), torch.nn.Identity()))
    expected = method(ViewBatch(tuple(view.float() for view in views)))
    with torch.autocast("cpu", torch.bfloat16):
        output = method(ViewBatch(views))
    assert output.loss == expected.loss
    assert output.logs == expected.logs
    assert method._draw(views[0]).dtype == torch.float32


def test_directions_are_of_length_one_and_others_in_each_step() -> None:
    method = LeJepaConfig().build(torch.nn.Identity(), 8)
    assert isinstance(method, LeJepa)
    z = torch.zeros(2, 64)
    first = method._draw(z)
    torch.testing.assert_close(first.norm(dim=0), torch.ones(256))
    assert torch.equal(method._draw(z), first)
    method.after_step(0.1)
    assert not torch.allclose(method._draw(z), first)

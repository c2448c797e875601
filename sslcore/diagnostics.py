"""Signs of collapse that need no labels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sslcore.errors import CollapseError, ShapeError
from sslcore.numerics import in_full_precision, require_pair, unit_rows


@in_full_precision
def spread(z: Tensor) -> Tensor:
    """Return how far the rows of `z`, `[batch, dim]`, point in different directions.

    The root of the summed variances of the rows at length 1: 0 if all are equal, 1 if they are
    spread evenly around the origin, whatever `dim`.
    """
    units = unit_rows(_require_rows(z))
    return units.var(dim=0, correction=0).sum().sqrt()


@in_full_precision
def effective_rank(z: Tensor) -> Tensor:
    """Return how many directions the rows of `z`, `[batch, dim]`, really vary in.

    The exponential of the entropy of the singular values: 1 on a line, `min(batch - 1, dim)` if
    all directions matter the same, 0 if all rows are equal.

    Source:
        Garrido et al., "RankMe", ICML 2023, arXiv:2210.02885, equation 1, with two changes: rows
        are centred, so that a common offset does not count as a direction; and singular values
        that are no more than rounding are dropped instead of adding a constant.
    """
    z = _require_rows(z)
    values = torch.linalg.svdvals(z - z.mean(dim=0))
    rounding = (
        torch.linalg.vector_norm(z) * torch.finfo(torch.float32).eps * math.sqrt(min(z.shape))
    )
    values = values[values > rounding]
    if not len(values):
        return z.new_zeros(())
    shares = values / values.sum()
    return torch.exp(-(shares * shares.log()).sum())


@in_full_precision
def alignment(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared distance of two views of a sample at length 1: 0 (equal) to 4.

    Source:
        Wang, Isola, ICML 2020, arXiv:2005.10242, section 4.1, with their exponent 2.
    """
    require_pair(z_a, z_b, min_rows=1)
    return (unit_rows(z_a) - unit_rows(z_b)).square().sum(dim=1).mean()


@in_full_precision
def uniformity(z: Tensor, *, scale: float = 2.0, block: int = 1024) -> Tensor:
    """Return the log of the mean Gaussian potential of all pairs of rows: 0 at collapse.

    The lower, the more evenly the rows, `[batch, dim]`, at length 1 cover the sphere; -4 at
    `scale` 2 if all are at right angles. Needs `block * batch` numbers at a time.

    Source:
        Wang, Isola, ICML 2020, arXiv:2005.10242, section 4.1, with their t = 2.
    """
    units = unit_rows(_require_rows(z))
    potentials = []
    for start in range(0, len(units), block):
        exponents = 2 * scale * (units[start : start + block] @ units.T - 1)
        exponents.diagonal(start).fill_(-torch.inf)  # a row and itself are no pair
        potentials.append(exponents.flatten().logsumexp(dim=0))
    pairs = len(units) * (len(units) - 1)
    return torch.stack(potentials).logsumexp(dim=0) - math.log(pairs)


def _require_rows(z: Tensor) -> Tensor:
    if z.ndim != 2 or z.shape[0] < 2:
        raise ShapeError(f"expected [batch > 1, dim], got {tuple(z.shape)}")
    return z


@dataclass(frozen=True, slots=True)
class Health:
    """One measurement; see the functions of the same names.

    The projections collapse first: embeddings in front of a collapsed head still differ, but no
    longer learn anything. None where they were not measured.
    """

    spread: float
    effective_rank: float
    alignment: float
    uniformity: float
    projection_spread: float | None = None
    projection_rank: float | None = None


@torch.no_grad()
def measure_health(
    embeddings: Tensor, pair: tuple[Tensor, Tensor], projections: Tensor | None = None
) -> Health:
    """Measure embeddings, and how far those of two views lie apart.

    Args:
        embeddings: `[batch, dim]`.
        pair: Embeddings of two views of the same samples, not necessarily those of `embeddings`.
        projections: Of `embeddings`, `[batch, projection_dim]`.
    """
    return Health(
        spread=spread(embeddings).item(),
        effective_rank=effective_rank(embeddings).item(),
        alignment=alignment(*pair).item(),
        uniformity=uniformity(embeddings).item(),
        projection_spread=None if projections is None else spread(projections).item(),
        projection_rank=None if projections is None else effective_rank(projections).item(),
    )


class CollapseGuard:
    """Tells collapse from health: first a warning, then an end of the run.

    Measurements are compared with the first one, not with a fixed bound: pooled features of an
    untrained network on grey images already have cosine similarities above 0.9. So the first
    check must be made before training, or `reference` be given when a run goes on. Only the
    spread of trained projections has a fixed bound, since every healthy method drives it up.
    """

    def __init__(self, *, patience: int = 3, reference: Health | None = None) -> None:
        """Start without a warning.

        Args:
            patience: Bad checks after the first one that end the run.
            reference: Of the untrained encoder; the first checked one by default.
        """
        self.patience = patience
        self.reference = reference
        self._bad_checks = 0

    @property
    def is_worried(self) -> bool:
        """Whether the last check was a bad one."""
        return self._bad_checks > 0

    def check(self, health: Health) -> str | None:
        """Return a warning if `health` is the first sign of collapse, else nothing.

        Raises:
            CollapseError: After `patience` further bad checks without a good one between them.
        """
        if self.reference is None:
            self.reference = health
            return None
        sign = _sign_of_collapse(health, self.reference)
        self._bad_checks = self._bad_checks + 1 if sign else 0
        if self._bad_checks > self.patience:
            raise CollapseError(f"the run has collapsed: {sign}; {_WAY_OUT}")
        return f"the run may be collapsing: {sign}" if self._bad_checks == 1 else None


_LEAST_SHARE = 0.1  # of the untrained network's; in healthy runs the least seen was 0.36
_LEAST_PROJECTION_SHARE = 0.03  # they keep what the loss asks for: learning runs fell to 0.07
_LEAST_SPREAD = 1e-3
_LEAST_RANK = 1.5
_LEAST_PROJECTION_SPREAD = 0.05  # healthy methods were above 0.8 after 50 steps
_WAY_OUT = (
    "try a lower learning rate, a larger batch, more samples, stronger views, or, if this is none,"
    " a method with an explicit term against collapse (vicreg, barlow_twins, simclr)"
)


def _sign_of_collapse(health: Health, first: Health) -> str | None:
    checks = (
        ("spread", health.spread, first.spread, _LEAST_SPREAD, _LEAST_SHARE),
        ("effective rank", health.effective_rank, first.effective_rank, _LEAST_RANK, _LEAST_SHARE),
        (
            "spread of the projections",
            health.projection_spread,
            first.projection_spread,
            _LEAST_PROJECTION_SPREAD,
            _LEAST_SHARE,
        ),
        (
            "rank of the projections",
            health.projection_rank,
            first.projection_rank,
            _LEAST_RANK,
            _LEAST_PROJECTION_SHARE,
        ),
    )
    for name, value, before, least, share in checks:
        bound = max(least, share * (before or 0.0))
        if value is not None and not value >= bound:
            return f"{name} {value:.3g} < {bound:.3g}"
    return None

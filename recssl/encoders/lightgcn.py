"""LightGCN: embeddings averaged over steps along the edges of the interaction graph."""

from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from recssl.encoders.encoder import EmbeddingTable, add_noise
from recssl.graph import GraphView, LowRank
from sslcore.errors import ShapeError


class CleanGraph:
    """The adjacency of all edges; shared, not copied, by a teacher's copy of the encoder."""

    def __init__(self, adjacency: Tensor) -> None:
        self.adjacency = adjacency

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def on(self, device: torch.device) -> Tensor:
        """Return the adjacency on `device`, where it stays."""
        if self.adjacency.device != device:
            self.adjacency = self.adjacency.to(device)
        return self.adjacency


class LightGCN(EmbeddingTable):
    """Mean of the embeddings after 0 to `layers` propagations.

    With noise each propagation is followed by a move, as in SimGCL, and the mean leaves out the
    embeddings before the first propagation if `skip_input` is set.

    Source:
        He et al., "LightGCN", SIGIR 2020, arXiv:2002.02126, equations 6 and 8, with equal
        weights 1 / (layers + 1).
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        dim: int,
        adjacency: Tensor,
        *,
        layers: int = 2,
        skip_input: bool = False,
    ) -> None:
        """Draw the table.

        Args:
            num_users: First nodes.
            num_items: Further nodes.
            dim: Columns.
            adjacency: Normalised, symmetric, sparse CSR, `[nodes, nodes]`; not part of the state.
            layers: Propagations, 1 or more.
            skip_input: Leave the table itself out of the mean, as SimGCL does.
        """
        super().__init__(num_users, num_items, dim, sparse=False)
        self.graph = CleanGraph(adjacency)
        self.layers = layers
        taken = layers if skip_input else layers + 1
        self.weights = (0.0 if skip_input else 1 / taken, *[1 / taken] * layers)

    def forward(self, view: GraphView) -> Tensor:
        """See `NodeEncoder.forward`.

        Raises:
            ShapeError: If the view has one adjacency per layer, and another number of layers.
        """
        passes = {} if view.passes is None else view.passes
        is_trained = self.table.weight.requires_grad
        if is_trained not in passes:
            passes[is_trained] = _Polynomial.apply(  # type: ignore[no-untyped-call]
                self.table.weight,
                self._per_layer(view),
                self.weights,
                view.noise,
                self._generator(view),
            )
        return passes[is_trained][view.nodes]

    def forward_with_layer(self, view: GraphView, layer: int) -> tuple[Tensor, Tensor]:
        """Return the embeddings of `view.nodes`, and those after `layer` propagations alone.

        Both share the same noise. Errors are those of `forward`.
        """
        generator = self._generator(view)
        current: Tensor = self.table.weight
        total, chosen = self.weights[0] * current, current
        steps = zip(self._per_layer(view), self.weights[1:], strict=True)
        for number, (adjacency, weight) in enumerate(steps, start=1):
            current = _Polynomial.apply(  # type: ignore[no-untyped-call]
                current, (adjacency,), (0.0, 1.0), view.noise, generator
            )
            total = total + weight * current
            chosen = current if number == layer else chosen
        return total[view.nodes], chosen[view.nodes]

    def forward_with_low_rank(self, nodes: Tensor, factors: LowRank) -> tuple[Tensor, Tensor]:
        """Return the embeddings of `nodes`, and those with the last step of each layer replaced.

        Of the second, each layer takes the embeddings of the clean graph's layer before along
        `factors`, as in LightGCL.
        """
        clean, x = GraphView(nodes), self.table.weight
        before: Tensor = _Polynomial.apply(  # type: ignore[no-untyped-call]
            x, self._per_layer(clean)[:-1], self.weights[1:], 0.0, self._generator(clean)
        )
        spread = self.weights[0] * x + factors.propagate(before)
        return self(clean), spread[nodes]

    def _per_layer(self, view: GraphView) -> tuple[Tensor | LowRank, ...]:
        if view.adjacency is None:
            return (self.graph.on(self.table.weight.device),) * self.layers
        if not isinstance(view.adjacency, tuple):
            return (view.adjacency,) * self.layers
        if len(view.adjacency) != self.layers:
            raise ShapeError(
                f"the view has an adjacency for each of {len(view.adjacency)} layers,"
                f" the encoder {self.layers} layers"
            )
        return view.adjacency

    def _generator(self, view: GraphView) -> torch.Generator:
        return torch.Generator(self.table.weight.device).manual_seed(view.seed)


class _Polynomial(torch.autograd.Function):
    """`sum over l of weights[l] * A_l ... A_1 x`, with noise after each product.

    Each `A` is symmetric, so the gradient is a polynomial of the incoming one with the order of
    the factors turned round: it costs what the forward pass costs, and keeps nothing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        factors: tuple[Tensor | LowRank, ...],
        weights: tuple[float, ...],
        noise: float,
        generator: torch.Generator,
    ) -> Tensor:
        ctx.factors, ctx.weights = factors, weights
        total, current = weights[0] * x, x
        for factor, weight in zip(factors, weights[1:], strict=True):
            current = add_noise(_product(factor, current), amount=noise, generator=generator)
            total.add_(current, alpha=weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        total = ctx.weights[-1] * grads[0]
        for factor, weight in zip(reversed(ctx.factors), ctx.weights[-2::-1], strict=True):
            total = _product(factor, total).add_(grads[0], alpha=weight)
        return total, None, None, None, None


def _product(factor: Tensor | LowRank, x: Tensor) -> Tensor:
    if isinstance(factor, LowRank):
        return factor.propagate(x)
    if x.device.type != "cpu":
        return factor @ x
    # sums of rows of x, which this kernel fetches ahead: a third of the time of the sparse product
    return F.embedding_bag(
        factor.col_indices(),
        x.detach(),  # what a gradient would need is not made
        factor.crow_indices(),
        mode="sum",
        per_sample_weights=factor.values(),
        include_last_offset=True,
    )

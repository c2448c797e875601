"""The interaction graph: who interacted with what, as one CSR matrix, and views of it.

Nodes are numbered users first: user `u` is node `u`, item `i` is node `num_users + i`.
"""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from sslcore.errors import ShapeError

_INT32_MAX = np.iinfo(np.int32).max


class InteractionGraph:
    """The graph between users and items of a set of interactions.

    An edge is an entry of the matrix; its weight plays no part. Edges are numbered in the order
    of the matrix: by user, then by item. Memory is linear in the edges.
    """

    def __init__(self, matrix: csr_array) -> None:
        """Take the interactions, `[users, items]`, as they are: nothing is copied.

        Args:
            matrix: Items ascending within a row and none twice. May be memory-mapped.

        Raises:
            ShapeError: If a row is not sorted or has an item twice.
        """
        if not matrix.has_canonical_format:
            raise ShapeError(
                "expected interactions with ascending items and none twice in a row; "
                "call matrix.sum_duplicates() first"
            )
        self.matrix = matrix

    @property
    def num_users(self) -> int:
        """Number of rows, with or without interactions."""
        return int(self.matrix.shape[0])

    @property
    def num_items(self) -> int:
        """Number of columns, with or without interactions."""
        return int(self.matrix.shape[1])

    @property
    def num_edges(self) -> int:
        """Number of pairs of a user and an item."""
        return int(self.matrix.nnz)

    @cached_property
    def user_degrees(self) -> NDArray[np.int64]:
        """Interactions of each user, `[users]`."""
        degrees: NDArray[np.int64] = np.diff(self.matrix.indptr).astype(np.int64)
        return degrees

    @cached_property
    def item_degrees(self) -> NDArray[np.int64]:
        """Interactions of each item, `[items]`."""
        return np.bincount(self.matrix.indices, minlength=self.num_items)

    @cached_property
    def edge_users(self) -> NDArray[np.int32]:
        """User of each edge, `[edges]`."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.user_degrees)

    @property
    def edge_items(self) -> NDArray[np.int32]:
        """Item of each edge, `[edges]`."""
        items: NDArray[np.int32] = self.matrix.indices
        return items

    @cached_property
    def transposed(self) -> csr_array:
        """The matrix `[items, users]`, made on the first use."""
        return csr_array(self.matrix.T.tocsr())

    @cached_property
    def transposed_edges(self) -> NDArray[np.int32] | NDArray[np.int64]:
        """Number of the edge behind each entry of `transposed`, `[edges]`."""
        dtype = np.int32 if self.num_edges <= _INT32_MAX else np.int64
        numbers = np.arange(self.num_edges, dtype=dtype)
        numbered = csr_array(
            (numbers, self.matrix.indices, self.matrix.indptr), shape=self.matrix.shape
        )
        order: NDArray[np.int32] | NDArray[np.int64] = numbered.tocsc().data
        return order

    def contains(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Say which pairs are edges, exactly: a binary search in each pair's row.

        Args:
            users: Any shape, in `0 .. num_users - 1`.
            items: Numbers of any size, of the same or a broadcastable shape.
        """
        users, items = np.broadcast_arrays(users, items)
        if not users.size or not self.num_edges:
            return np.zeros(users.shape, dtype=np.bool_)
        below = self.matrix.indptr[users].astype(np.int64) - 1
        end = self.matrix.indptr[users + 1]
        columns = self.matrix.indices
        for bit in reversed(range(int((end - below).max()).bit_length())):
            ahead = below + (1 << bit)
            inside = ahead < end
            inside &= columns.take(ahead, mode="clip") < items
            np.copyto(below, ahead, where=inside)
        below += 1
        found: NDArray[np.bool_] = below < end
        found &= columns.take(below, mode="clip") == items
        return found

    def adjacency(
        self,
        keep: NDArray[np.bool_] | None = None,
        *,
        user_power: float = -0.5,
        item_power: float = -0.5,
    ) -> Tensor:
        """Return the normalised adjacency of users and items, sparse CSR float32 `[N, N]`.

        `N = num_users + num_items`. The entry of an edge is
        `user_degree ** user_power * item_degree ** item_power` in both of its places, so the
        matrix is symmetric with any powers. Degrees are those of the kept edges; a node without
        any has an empty row.

        Args:
            keep: Which edges to keep, `[edges]`; all without it.
            user_power: Exponent of the users' degrees.
            item_power: Exponent of the items' degrees.

        Raises:
            ShapeError: If `keep` has not one value per edge.

        Source:
            He et al., "LightGCN", SIGIR 2020, arXiv:2002.02126, equation 8.
        """
        users, items, by_item = self.edge_users, self.edge_items, self.transposed.indices
        user_degrees, item_degrees = self.user_degrees, self.item_degrees
        if keep is not None:
            if keep.shape != (self.num_edges,):
                raise ShapeError(f"expected keep [{self.num_edges} edges], got {keep.shape}")
            users, items = users[keep], items[keep]
            by_item = by_item[keep[self.transposed_edges]]
            user_degrees = np.bincount(users, minlength=self.num_users)
            item_degrees = np.bincount(items, minlength=self.num_items)
        user_scale = _power(user_degrees, user_power)
        item_scale = _power(item_degrees, item_power)
        # all three below hold the users' rows, then the items'
        degrees = np.concatenate([user_degrees, item_degrees])
        values = np.concatenate(
            [
                np.repeat(user_scale, user_degrees) * item_scale[items],
                np.repeat(item_scale, item_degrees) * user_scale[by_item],
            ]
        )
        dtype: type[np.int32 | np.int64]
        dtype = np.int32 if max(len(values), len(degrees)) <= _INT32_MAX else np.int64
        columns = np.empty(len(values), dtype=dtype)
        np.add(items, self.num_users, out=columns[: len(items)], casting="unsafe")
        columns[len(items) :] = by_item
        starts = np.zeros(len(degrees) + 1, dtype=dtype)
        np.cumsum(degrees, out=starts[1:])
        return _sparse_csr(starts, columns, values)


@dataclass(frozen=True, slots=True)
class LowRank:
    """An adjacency of low rank: `users @ items.T` in place of the user-item block.

    Attributes:
        users: `[num_users, rank]`, float32.
        items: `[num_items, rank]`, float32.
    """

    users: Tensor
    items: Tensor

    def propagate(self, nodes: Tensor) -> Tensor:
        """Multiply the adjacency `[N, N]` with `nodes`, `[N, dim]`, without writing it out."""
        of_users, of_items = nodes[: len(self.users)], nodes[len(self.users) :]
        return torch.cat(
            [self.users @ (self.items.T @ of_items), self.items @ (self.users.T @ of_users)]
        )

    def to(self, device: torch.device | str) -> Self:
        """Return the same factors on `device`."""
        return type(self)(self.users.to(device), self.items.to(device))


Adjacency = Tensor | tuple[Tensor, ...] | LowRank
"""One for all layers, one per layer, or factors of low rank."""


@dataclass(frozen=True, slots=True)
class GraphView:
    """What an encoder takes for one view: which nodes, and how the graph is perturbed.

    Attributes:
        nodes: Rows to return, `[batch]`, int64; items start at `num_users`.
        adjacency: The perturbed graph; None for the encoder's own clean one.
        noise: Length of the random step added per layer (SimGCL's eps), >= 0.
        seed: Of that noise.
        passes: What an encoder that embeds all nodes anyway, `[N, dim]`, keeps for views that
            differ in their nodes only and share this one; by whether gradients train it, since
            the teachers of such views are equal. For one step; None keeps nothing.
    """

    nodes: Tensor
    adjacency: Adjacency | None = None
    noise: float = 0.0
    seed: int = 0
    passes: dict[bool, Tensor] | None = field(default=None, repr=False, compare=False)

    def to(self, device: torch.device | str) -> Self:
        """Return the same view with its tensors on `device`."""
        adjacency = self.adjacency
        if isinstance(adjacency, tuple):
            moved: Adjacency | None = tuple(layer.to(device) for layer in adjacency)
        else:
            moved = None if adjacency is None else adjacency.to(device)
        return type(self)(self.nodes.to(device), moved, self.noise, self.seed)


def _power(degrees: NDArray[np.int64], power: float) -> NDArray[np.float32]:
    """Return `degrees ** power`, and 0 for a node without edges."""
    scale = np.zeros(len(degrees), dtype=np.float64)
    np.power(degrees, power, out=scale, where=degrees > 0, dtype=np.float64, casting="unsafe")
    return scale.astype(np.float32)


def _sparse_csr(
    starts: NDArray[np.integer], columns: NDArray[np.integer], values: NDArray[np.float32]
) -> Tensor:
    size = (len(starts) - 1,) * 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled")
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns),
            torch.from_numpy(values),
            size=size,
        )

"""Feature towers: users and items from their features, so that new ones can be embedded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from recssl.encoders.encoder import NodeEncoder, embedding_rows
from recssl.errors import DatasetError
from recssl.graph import GraphView
from sslcore.modules.heads import projection_mlp


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """How the feature columns of one table become numbers; made from a table, kept with the run.

    Attributes:
        categories: Column to its known values, as text; others, and missing ones, are one more.
        numbers: Column to mean and standard deviation; a missing number is the mean.
    """

    categories: dict[str, list[str]]
    numbers: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, table: pl.DataFrame, *, most_values: int = 10_000) -> "FeatureSpec":
        """Describe `table`, less its row number and id.

        Args:
            table: Such as `Dataset.items`.
            most_values: Values of a text column that are told apart, the most frequent ones.

        Raises:
            DatasetError: There is no feature column, or one of a type without a meaning here.
        """
        categories: dict[str, list[str]] = {}
        numbers: dict[str, tuple[float, float]] = {}
        for column in table.columns[2:]:
            values = table[column]
            if values.dtype.is_numeric():
                known = values.cast(pl.Float64).drop_nulls().drop_nans()
                mean, std = known.mean(), known.std(ddof=0)
                numbers[column] = (float(mean or 0.0), float(std or 0.0) or 1.0)  # type: ignore[arg-type]
            elif values.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
                counts = values.cast(pl.String).drop_nulls().value_counts()
                frequent = counts.sort(["count", column], descending=[True, False])
                categories[column] = frequent[column].head(most_values).to_list()
            else:
                raise DatasetError(
                    f"feature column {column!r} is of type {values.dtype}; known: text, numbers,"
                    " booleans"
                )
        if not categories and not numbers:
            kind = table.columns[0] if table.columns else "table"
            raise DatasetError(
                f"the {kind} table has no feature columns; ingest them, or take another encoder"
            )
        return cls(categories, numbers)

    def encode(self, table: pl.DataFrame) -> tuple[Tensor, Tensor]:
        """Return codes `[rows, categories]`, int64, 0 for unknown, and numbers `[rows, numbers]`.

        Raises:
            DatasetError: A column is missing.
        """
        missing = [c for c in (*self.categories, *self.numbers) if c not in table.columns]
        if missing:
            raise DatasetError(f"missing feature columns {missing}; there are {table.columns}")
        codes = [_codes(table[name], known) for name, known in self.categories.items()]
        numbers = [_standard(table[name], *scale) for name, scale in self.numbers.items()]
        return _columns(codes, len(table), torch.long), _columns(numbers, len(table), torch.float)


class FeatureTower(nn.Module):
    """From codes and numbers to embeddings: embeddings of values, joined, through an MLP."""

    def __init__(self, spec: FeatureSpec, dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.spec = spec
        self.values = nn.ModuleList(
            nn.Embedding(len(known) + 1, dim) for known in spec.categories.values()
        )
        width = dim * len(spec.categories) + len(spec.numbers)
        self.layers = projection_mlp([width, *hidden_dims, dim], hidden_norm=False)

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        """Return `[rows, dim]`; see `FeatureSpec.encode`."""
        parts = [embed(codes[:, place]) for place, embed in enumerate(self.values)]
        rows: Tensor = self.layers(torch.cat([*parts, numbers], dim=1))
        return rows


def has_features(table: pl.DataFrame) -> bool:
    """Tell whether a table of users or items has more than row numbers and ids."""
    return len(table.columns) > 2


class TwoTowers(NodeEncoder):
    """One tower for users, one for items; neither looks at the graph.

    A side without features is a table of embeddings, as in matrix factorisation.

    Source:
        Covington et al., "Deep neural networks for YouTube recommendations", RecSys 2016; Yi et
        al., RecSys 2019, section 4.
    """

    def __init__(
        self,
        users: pl.DataFrame,
        items: pl.DataFrame,
        dim: int,
        *,
        hidden_dims: Sequence[int] = (128,),
    ) -> None:
        """Read the features; they stay in memory and move with the module.

        Args:
            users: Row number, id, features; row `u` is user `u`.
            items: Likewise.
            dim: Of the embeddings.
            hidden_dims: Layers between features and embedding, in each tower.

        Raises:
            DatasetError: No side has features, or one has unusable ones.
        """
        super().__init__(len(users), len(items), dim)
        if not has_features(users) and not has_features(items):
            raise DatasetError(
                "neither users nor items have feature columns; ingest the log with --item-features"
                " or --user-features, or take another encoder"
            )
        sides: list[tuple[str, pl.DataFrame]] = [("user", users), ("item", items)]
        towers: dict[str, nn.Module] = {}
        for side, table in sides:
            if not has_features(table):
                towers[side] = embedding_rows(len(table), dim, sparse=True)
                continue
            spec = FeatureSpec.of(table)
            towers[side] = FeatureTower(spec, dim, hidden_dims)
            codes, numbers = spec.encode(table)
            self.register_buffer(f"{side}_codes", codes, persistent=False)
            self.register_buffer(f"{side}_numbers", numbers, persistent=False)
        self.towers = nn.ModuleDict(towers)

    def forward(self, view: GraphView) -> Tensor:
        """See `NodeEncoder.forward`. Noise and adjacency of the view play no part."""
        is_user = view.nodes < self.num_users
        rows = torch.empty(len(view.nodes), self.dim, device=view.nodes.device)
        rows = rows.index_put((is_user,), self._side("user", view.nodes[is_user]))
        items = self._side("item", view.nodes[~is_user] - self.num_users)
        return rows.index_put((~is_user,), items)

    def _side(self, side: str, rows: Tensor) -> Tensor:
        tower = self.towers[side]
        if isinstance(tower, FeatureTower):
            codes, numbers = getattr(self, f"{side}_codes"), getattr(self, f"{side}_numbers")
            embedded: Tensor = tower(codes[rows], numbers[rows])
        else:
            embedded = tower(rows)
        return embedded

    @torch.no_grad()
    def embed_new(self, side: str, table: pl.DataFrame) -> Tensor:
        """Embed users or items that the log does not know, `[rows, dim]`.

        Args:
            side: `user` or `item`.
            table: With the feature columns of the data set.

        Raises:
            DatasetError: A column is missing, or the data set has none for this side.
        """
        tower = self.towers[side]
        if not isinstance(tower, FeatureTower):
            raise DatasetError(f"the {side} table has no feature columns to embed new ones by")
        codes, numbers = tower.spec.encode(table)
        device = next(self.parameters()).device
        rows: Tensor = tower(codes.to(device), numbers.to(device))
        return rows


def _codes(values: pl.Series, known: Sequence[str]) -> Tensor:
    numbered = {value: number for number, value in enumerate(known, start=1)}
    text = values.cast(pl.String).to_list()
    return torch.tensor([numbered.get(value, 0) for value in text], dtype=torch.long)


def _standard(values: pl.Series, mean: float, std: float) -> Tensor:
    filled = values.cast(pl.Float64).fill_nan(None).fill_null(mean)
    return torch.tensor(((filled - mean) / std).to_list(), dtype=torch.float32)


def _columns(columns: list[Any], rows: int, dtype: torch.dtype) -> Tensor:
    return torch.stack(columns, dim=1) if columns else torch.empty(rows, 0, dtype=dtype)

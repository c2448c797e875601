"""The items that all rows of a batch are compared with: their correction, and which are none."""

import numpy as np
from numpy.typing import NDArray

from recssl.graph import InteractionGraph
from recssl.sampling.in_batch import InBatch


class SharedColumns:
    """The columns of a batch: the liked items of its rows, then items drawn for all rows."""

    def __init__(
        self,
        graph: InteractionGraph,
        *,
        liked: NDArray[np.float64] | None,
        drawn: NDArray[np.float64] | None,
        accidental: bool = False,
    ) -> None:
        """Prepare.

        Args:
            graph: Training interactions.
            liked: How likely each item is to stand in a pair, `[items]`; None if the items of
                the batch are no columns.
            drawn: How likely each item is to be drawn, `[items]`; None without drawn columns.
            accidental: Leave out all that a row's user likes from the items of the batch too,
                not just the row's own item. Of drawn ones it is always left out.
        """
        self._in_batch = InBatch(graph)
        self._liked = liked
        self._drawn = drawn
        self._accidental = accidental

    def log_q(
        self, items: NDArray[np.int64], drawn: NDArray[np.int64] | None
    ) -> NDArray[np.float32]:
        """Return the log of the chance that a column holds an item, of all kinds of columns.

        To be subtracted from the logits. With items of the batch and drawn ones an item comes
        from a mixture of both distributions, in the proportion of their columns, whichever of
        them its own column belongs to.

        Args:
            items: Of the rows, `[batch]`.
            drawn: Drawn ones, `[count]`, if any.

        Returns:
            `[batch + count]`: of the items of the rows, then of the drawn ones. An item that is
            never drawn has minus infinity.

        Source:
            Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
            recommendations", RecSys 2019, section 4; the mixture: Yang et al., "Mixed negative
            sampling for learning two-tower neural networks in recommendations", WWW 2020
            companion, section 4.
        """
        asked = items if drawn is None else np.concatenate([items, drawn])
        sums = np.zeros(len(asked))
        count = 0
        if self._liked is not None:
            sums += len(items) * self._liked[asked]
            count += len(items)
        if self._drawn is not None and drawn is not None:
            sums += len(drawn) * self._drawn[asked]
            count += len(drawn)
        with np.errstate(divide="ignore"):
            logs: NDArray[np.float32] = np.log(sums / count).astype(np.float32)
        return logs

    def excluded(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        drawn: NDArray[np.int64] | None,
    ) -> NDArray[np.bool_]:
        """Mark the columns that are no negatives of the row, `[batch, columns]`.

        Args:
            users: `[batch]`.
            items: `[batch]`.
            drawn: `[count]`, if any.
        """
        parts = []
        if self._liked is not None:
            parts.append(self._in_batch.mask(users, items, accidental=self._accidental))
        if drawn is not None:
            parts.append(self._in_batch.mask_drawn(users, drawn))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

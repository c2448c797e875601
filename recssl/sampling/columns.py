"""The items that all rows of a batch are compared with: their correction, and which are none."""

import numpy as np
from numpy.typing import NDArray

from recssl.graph import InteractionGraph
from recssl.sampling.in_batch import InBatch


class SharedColumns:
    """The columns of a batch: the liked items of its rows, items drawn for all rows, past ones.

    Past items are the liked ones of earlier batches, as `FeatureQueue.ids` has them: an item is as
    likely there as in the batch, and what is left out is the same.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        *,
        liked: NDArray[np.float64],
        drawn: NDArray[np.float64] | None = None,
        with_batch: bool = True,
        accidental: bool = False,
    ) -> None:
        """Prepare.

        Args:
            graph: Training interactions.
            liked: How likely each item is to stand in a pair, `[items]`.
            drawn: How likely each item is to be drawn, `[items]`; None without drawn columns.
            with_batch: Whether the items of the batch are columns.
            accidental: Leave out all that a row's user likes from the items of this batch and of
                earlier ones too, not just the row's own item. Of drawn ones it always is.
        """
        self._in_batch = InBatch(graph)
        self._liked = liked
        self._drawn = drawn
        self._with_batch = with_batch
        self._accidental = accidental

    def log_q(
        self,
        items: NDArray[np.int64],
        drawn: NDArray[np.int64] | None = None,
        past: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Return the log of the chance that a column holds an item, of all kinds of columns.

        To be subtracted from the logits. With several kinds of columns an item comes from a
        mixture of their distributions, in the proportion of the columns, whichever of them its
        own column belongs to.

        Args:
            items: Of the rows, `[batch]`.
            drawn: Drawn ones, `[count]`, if any.
            past: Of earlier batches, `[size]`, -1 for an empty place, if any.

        Returns:
            `[batch + count + size]`: of the items of the rows, of the drawn ones, of the past
            ones. An item that is never drawn has minus infinity, an empty place 0.

        Source:
            Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
            recommendations", RecSys 2019, section 4; the mixture: Yang et al., "Mixed negative
            sampling for learning two-tower neural networks in recommendations", WWW 2020
            companion, section 4.
        """
        asked = np.concatenate([part for part in (items, drawn, past) if part is not None])
        of_pairs = len(items) * self._with_batch
        of_pairs += 0 if past is None else int((past >= 0).sum())
        sums, count = of_pairs * self._liked[asked], of_pairs
        if drawn is not None and self._drawn is not None:
            sums += len(drawn) * self._drawn[asked]
            count += len(drawn)
        sums[asked < 0] = count
        with np.errstate(divide="ignore"):
            logs: NDArray[np.float32] = np.log(sums / count).astype(np.float32)
        return logs

    def excluded(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        drawn: NDArray[np.int64] | None = None,
        past: NDArray[np.int64] | None = None,
    ) -> NDArray[np.bool_]:
        """Mark the columns that are no negatives of the row, `[batch, columns]`.

        Args:
            users: `[batch]`.
            items: `[batch]`.
            drawn: `[count]`, if any.
            past: `[size]`, if any; empty places are left out for every row.
        """
        parts = []
        if self._with_batch:
            parts.append(self._in_batch.mask(users, items, accidental=self._accidental))
        if drawn is not None:
            parts.append(self._in_batch.mask_drawn(users, drawn))
        if past is not None:
            known = np.maximum(past, 0)
            if self._accidental:
                marked = self._in_batch.mask_drawn(users, known)
            else:
                marked = self._in_batch.mask_own(items, known)
            marked[:, past < 0] = True
            parts.append(marked)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

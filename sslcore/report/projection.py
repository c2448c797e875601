"""Embeddings on a plane, and who is near to whom."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FEWEST = 8
"""Samples below which a map says nothing."""

_COMPONENTS = 30
_PERPLEXITY = 30.0
_ANGLE = 0.7  # coarser than usual: a third of the time, and the same picture
_ITERATIONS = 600
_COLLAPSED = 1e-6  # spread below which all samples are at one place


def unit_rows(embeddings: FloatArray) -> FloatArray:
    """Divide each row by its length, so that products are cosine similarities."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, 1e-12))


def project(embeddings: FloatArray, *, seed: int) -> FloatArray:
    """Place the rows of `embeddings` in the unit square, `[samples, 2]`: PCA, then t-SNE.

    Args:
        embeddings: `[samples, dim]`, at least `FEWEST` rows.
        seed: Equal seeds give equal maps on one machine.
    """
    rows = unit_rows(embeddings)
    components = min(_COMPONENTS, *rows.shape)
    if rows.std(0).max() < _COLLAPSED:
        return np.full((len(rows), 2), 0.5)
    reduced = PCA(components, random_state=seed).fit_transform(rows)
    scale = reduced[:, 0].std()
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    start = reduced[:, :2] / scale * 1e-4
    tsne = TSNE(
        init=start, perplexity=perplexity, random_state=seed, angle=_ANGLE, max_iter=_ITERATIONS
    )
    points = tsne.fit_transform(reduced)
    low, high = points.min(0), points.max(0)
    return np.asarray((points - low) / np.maximum(high - low, 1e-12), dtype=np.float64)


def nearest(
    units: FloatArray, owners: Sequence[str | None] | None, query: int, *, most: int
) -> list[tuple[int, float]]:
    """Return the samples nearest to `query` with their cosine similarity, nearest first.

    Left out: the sample itself, and all samples of its owner where that is known.

    Args:
        units: Rows of length one.
        owners: Such as the patient of each image; None if samples have none.
        query: A row.
        most: Samples, if there are as many.
    """
    similarity = units @ units[query]
    similarity[query] = -np.inf
    if owners is not None and owners[query] is not None:
        similarity[np.array([owner == owners[query] for owner in owners])] = -np.inf
    best = np.argsort(-similarity, kind="stable")[:most]
    return [(int(index), float(similarity[index])) for index in best if similarity[index] > -np.inf]


def share_of_equal_neighbours(
    units: FloatArray, keys: Sequence[str | None], *, apart_from: Sequence[str | None] | None = None
) -> tuple[float, float] | None:
    """Measure how often the nearest sample carries the same key.

    Args:
        units: Rows of length one.
        keys: Such as the label of each row; None is not counted.
        apart_from: Rows with an equal, known entry here are not neighbours.

    Returns:
        The share, and the share that chance would give; None with fewer than two keys.
    """
    known = np.array([key is not None for key in keys])
    codes = _codes([key for key in keys if key is not None])
    if len(np.unique(codes)) < 2:
        return None
    rows = units[known]
    blocked = (
        _codes([key for key, kept in zip(apart_from, known, strict=True) if kept])
        if apart_from
        else None
    )
    equal, chance = 0, 0.0
    for start in range(0, len(rows), 512):
        block = np.arange(start, min(start + 512, len(rows)))
        similarity = rows[block] @ rows.T
        allowed = np.ones(similarity.shape, bool)
        allowed[np.arange(len(block)), block] = False
        if blocked is not None:
            allowed &= (blocked[block, None] != blocked) | (blocked[block, None] < 0)
        same = codes[block, None] == codes
        best = np.where(allowed, similarity, -np.inf).argmax(1)
        equal += int((same & allowed)[np.arange(len(block)), best].sum())
        chance += float(((same & allowed).sum(1) / np.maximum(allowed.sum(1), 1)).sum())
    return equal / len(rows), chance / len(rows)


def _codes(keys: Sequence[str | None]) -> IntArray:
    """Number the keys; None is -1."""
    numbers = {key: number for number, key in enumerate(sorted({k for k in keys if k is not None}))}
    return np.array([-1 if key is None else numbers[key] for key in keys], dtype=np.int64)

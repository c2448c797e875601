"""Contrastive losses written out pair by pair, from the papers' equations."""

import math

Rows = list[list[float]]


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def nt_xent_by_hand(z_a: Rows, z_b: Rows, temperature: float) -> float:
    views, count = z_a + z_b, len(z_a)
    total = 0.0
    for i, view in enumerate(views):
        partner = (i + count) % (2 * count)
        scores = [math.exp(cosine(view, other) / temperature) for other in views]
        rest = sum(score for k, score in enumerate(scores) if k != i)
        total -= math.log(scores[partner] / rest)
    return total / (2 * count)


def info_nce_by_hand(
    queries: Rows, keys: Rows, temperature: float, negatives: Rows | None = None
) -> float:
    total = 0.0
    for i, query in enumerate(queries):
        own = math.exp(cosine(query, keys[i]) / temperature)
        others = [key for k, key in enumerate(keys) if k != i] if negatives is None else negatives
        rest = sum(math.exp(cosine(query, other) / temperature) for other in others)
        total -= math.log(own / (own + rest))
    return total / len(queries)


def decoupled_by_hand(z_a: Rows, z_b: Rows, temperature: float) -> float:
    views, count = z_a + z_b, len(z_a)
    total = 0.0
    for i, view in enumerate(views):
        rest = sum(
            math.exp(cosine(view, other) / temperature)
            for k, other in enumerate(views)
            if k % count != i % count
        )
        total += math.log(rest) - cosine(view, views[(i + count) % (2 * count)]) / temperature
    return total / (2 * count)


def sup_con_by_hand(z_a: Rows, z_b: Rows, labels: list[int], temperature: float) -> float:
    views, count = z_a + z_b, len(z_a)
    total = 0.0
    for i, view in enumerate(views):
        scores = [math.exp(cosine(view, other) / temperature) for other in views]
        rest = sum(score for k, score in enumerate(scores) if k != i)
        partners = [
            k
            for k in range(2 * count)
            if k != i and (k % count == i % count or labels[i % count] == labels[k % count] >= 0)
        ]
        total -= sum(math.log(scores[k] / rest) for k in partners) / len(partners)
    return total / (2 * count)


def triplet_by_hand(z_a: Rows, z_b: Rows, margin: float) -> float:
    """Mean over all triplets that violate the margin, on distances at length 1."""
    views, count = z_a + z_b, len(z_a)
    losses = []
    for i, view in enumerate(views):
        partner = (i + count) % (2 * count)
        near = _distance(view, views[partner])
        for k, other in enumerate(views):
            if k % count != i % count:
                losses.append(max(0.0, near - _distance(view, other) + margin))
    violated = [loss for loss in losses if loss > 0]
    return sum(violated) / len(violated) if violated else 0.0


def _distance(a: list[float], b: list[float]) -> float:
    return math.sqrt(max(0.0, 2 - 2 * cosine(a, b)))

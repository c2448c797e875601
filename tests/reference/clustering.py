"""Sinkhorn, self-distillation, KoLeo and Gram anchoring written out sum by sum."""

import math

from tests.reference.contrastive import cosine

Rows = list[list[float]]


def softmax_by_hand(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in row]
    return [power / sum(powers) for power in powers]


def sinkhorn_by_hand(scores: Rows, epsilon: float, iterations: int) -> Rows:
    """Algorithm 1 of SwAV's appendix: columns to 1 / prototypes, then rows to 1 / samples."""
    q = [[math.exp(score / epsilon) for score in row] for row in scores]
    rows, columns = len(q), len(q[0])
    total = sum(sum(row) for row in q)
    q = [[x / total for x in row] for row in q]
    for _ in range(iterations):
        use = [sum(row[k] for row in q) for k in range(columns)]
        q = [[x / use[k] / columns for k, x in enumerate(row)] for row in q]
        q = [[x / sum(row) / rows for x in row] for row in q]
    return [[x / sum(row) for x in row] for row in q]


def cross_entropies_by_hand(scores: Rows, targets: Rows, temperature: float) -> list[float]:
    losses = []
    for score, target in zip(scores, targets, strict=True):
        guess = softmax_by_hand(score, temperature)
        losses.append(-sum(q * math.log(p) for q, p in zip(target, guess, strict=True)))
    return losses


def koleo_by_hand(z: Rows, eps: float) -> float:
    total = 0.0
    for i, row in enumerate(z):
        others = [2 - 2 * cosine(row, other) for k, other in enumerate(z) if k != i]
        total -= math.log(math.sqrt(max(0.0, min(others)) + eps**2))
    return total / len(z)


def gram_by_hand(patches: list[Rows], anchor: list[Rows]) -> float:
    gaps = [
        (cosine(mine[i], mine[j]) - cosine(theirs[i], theirs[j])) ** 2
        for mine, theirs in zip(patches, anchor, strict=True)
        for i in range(len(mine))
        for j in range(len(mine))
    ]
    return sum(gaps) / len(gaps)

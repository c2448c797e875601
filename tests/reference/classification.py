"""Cross-entropies written out, in plain Python."""

import math
from collections.abc import Sequence


def log_softmax(row: Sequence[float]) -> list[float]:
    total = math.log(math.fsum(math.exp(score - max(row)) for score in row)) + max(row)
    return [score - total for score in row]


def classification_by_hand(scores: Sequence[Sequence[float]], answers: Sequence[int]) -> float:
    losses = [-log_softmax(row)[answer] for row, answer in zip(scores, answers, strict=True)]
    return math.fsum(losses) / len(losses)


def soft_labels_by_hand(
    scores: Sequence[Sequence[float]], teacher: Sequence[Sequence[float]], temperature: float
) -> float:
    losses = []
    for mine, theirs in zip(scores, teacher, strict=True):
        said = log_softmax([score / temperature for score in mine])
        wanted = [math.exp(x) for x in log_softmax([score / temperature for score in theirs])]
        losses.append(-math.fsum(p * log_q for p, log_q in zip(wanted, said, strict=True)))
    return math.fsum(losses) / len(losses)

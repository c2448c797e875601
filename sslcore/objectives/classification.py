"""Naming a class: the right one, or as a teacher names it."""

from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, require_pair


@in_full_precision
def classification_loss(scores: Tensor, *, answers: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean cross-entropy, and for the log the share of rows named rightly.

    Args:
        scores: `[batch, classes]`, not normalised.
        answers: The right class of each row, from 0, `[batch]`, int64.

    Returns:
        A scalar, 0 at certainty and `log(classes)` where all scores are equal; and `accuracy`.

    Raises:
        ShapeError: Other shapes, or no row.
    """
    if scores.ndim != 2 or not len(scores) or answers.shape != scores.shape[:1]:
        raise ShapeError(
            "expected scores [batch, classes] and as many answers,"
            f" got {tuple(scores.shape)} and {tuple(answers.shape)}"
        )
    right = scores.argmax(dim=1) == answers
    return F.cross_entropy(scores, answers), {"accuracy": right.to(scores.dtype).mean()}


@in_full_precision
def soft_label_loss(scores: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the mean cross-entropy of a student's classes under those of a teacher.

    Args:
        scores: Of the student, `[batch, classes]`, not normalised.
        teacher: Scores of the teacher for the same rows, not normalised; no gradient reaches them.
        temperature: Divides the scores of both, > 0; below 1 the teacher sounds surer.

    Returns:
        A scalar, at least the entropy of the teacher's answers, which it reaches where both give
        the same.

    Raises:
        ShapeError: The shapes differ, are not 2-D, or have no row.

    Source:
        Chen et al., "Big self-supervised models are strong semi-supervised learners", NeurIPS
        2020, arXiv:2006.10029, equation 2, with the mean over the images instead of the sum, and
        without the factor `temperature ** 2` that other papers put before it.
    """
    require_pair(scores, teacher, min_rows=1)
    soft_labels = (teacher.detach() / temperature).softmax(dim=1)
    return F.cross_entropy(scores / temperature, soft_labels)

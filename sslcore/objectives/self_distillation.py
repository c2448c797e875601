"""Self-distillation: give a view the assignment that another view got (SwAV, DINO, iBOT)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision, require_pair


@in_full_precision
def assignment_loss(scores: Tensor, targets: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return the mean cross-entropy of soft assignments, at least the entropy of the targets.

    Args:
        scores: Of each sample and prototype, `[rows, prototypes]`.
        targets: Shares, same shape; each row sums to 1. A method that must not train its teacher
            detaches them.
        temperature: Divides `scores`, > 0.

    Raises:
        ShapeError: The shapes differ or are not 2-D, or there is no row.

    Source:
        Caron et al., "SwAV", NeurIPS 2020, arXiv:2006.09882, equation 2; Caron et al., "DINO",
        ICCV 2021, arXiv:2104.14294, equation 2. Both average over the pairs of views.
    """
    require_pair(scores, targets, min_rows=1)
    return _cross_entropies(scores, targets, temperature).mean()


@in_full_precision
def masked_patch_loss(
    scores: Tensor, targets: Tensor, *, masked: Tensor, temperature: float = 0.1
) -> Tensor:
    """Return the mean cross-entropy of masked patches: first over a sample, then over samples.

    Args:
        scores: Of the masked patches only, `[masked patches, prototypes]`, sample by sample, as
            `patches[masked]` gives them.
        targets: See `assignment_loss`.
        masked: Which patches they are, `[batch, count]`, bool.
        temperature: Divides `scores`, > 0.

    Returns:
        A scalar. A sample without masked patches counts as 0, and so makes the mean smaller.

    Raises:
        ShapeError: The shapes differ or are not 2-D, or are of another number of patches.

    Source:
        Zhou et al., "iBOT", ICLR 2022, arXiv:2111.07832, section 3; that samples without a mask
        count is in the code of iBOT and of DINOv2.
    """
    require_pair(scores, targets, min_rows=0)
    if masked.ndim != 2 or masked.sum() != len(scores):
        raise ShapeError(
            f"expected a mask [batch, count] of {len(scores)} patches,"
            f" got {tuple(masked.shape)} with {int(masked.sum())}"
        )
    per_sample = masked.sum(dim=1, keepdim=True).expand_as(masked)[masked]
    losses = _cross_entropies(scores, targets, temperature)
    return (losses / per_sample).sum() / max(1, len(masked))


def _cross_entropies(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    return -(targets * F.log_softmax(scores / temperature, dim=1)).sum(dim=1)


@in_full_precision
def sharpened(scores: Tensor, center: Tensor, *, temperature: float = 0.04) -> Tensor:
    """Return a teacher's assignment: centred, so that no prototype wins always, and sharpened.

    Args:
        scores: Of the teacher, `[rows, prototypes]`.
        center: Mean of its past scores, `[prototypes]`.
        temperature: Below that of the student, or all assignments become even.

    Raises:
        ShapeError: `center` has another width than `scores`.

    Source:
        Caron et al., "DINO", ICCV 2021, arXiv:2104.14294, section 3.1.
    """
    if scores.ndim != 2 or center.shape != scores.shape[1:]:
        raise ShapeError(
            f"expected scores [rows, prototypes] and a center [prototypes],"
            f" got {tuple(scores.shape)} and {tuple(center.shape)}"
        )
    return torch.softmax((scores - center) / temperature, dim=1)


@in_full_precision
def mean_entropy(targets: Tensor) -> Tensor:
    """Return the mean entropy of assignments, `[rows, prototypes]`: the least loss they allow.

    Near 0 each row has one prototype, near `log(prototypes)` all have all: then nothing is learnt.
    """
    entropies: Tensor = torch.special.entr(targets).sum(dim=1)
    return entropies.mean()

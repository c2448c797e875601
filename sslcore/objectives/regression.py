"""Cosine regression: predict the other view's projection (BYOL, SimSiam)."""

from torch import Tensor

from sslcore.numerics import in_full_precision, require_pair, unit_rows


@in_full_precision
def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return minus the mean cosine similarity of corresponding rows, in `[-1, 1]`.

    Gradients flow into both inputs. A method that must not train its target detaches it, which is
    what keeps SimSiam from collapse.

    Args:
        prediction: `[batch, dim]`, normalised here.
        target: Same shape, normalised here.

    Raises:
        ShapeError: If the shapes differ or are not 2-D, or without a row.

    Source:
        Chen, He, "SimSiam", CVPR 2021, arXiv:2011.10566, equation 1. SimSiam averages both
        directions (equation 2): factors 1/2 and 1/2.
    """
    require_pair(prediction, target, min_rows=1)
    return -(unit_rows(prediction) * unit_rows(target)).sum(dim=1).mean()


def normalised_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared distance of corresponding rows at length 1, in `[0, 4]`.

    Arguments and errors are those of `negative_cosine`, of which it is `2 + 2 *` the value.

    Source:
        Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733, equation 2:
        `2 - 2 cos`, summed over the vector. BYOL adds both directions: factors 1 and 1, so its
        gradient is four times that of SimSiam's loss.
    """
    return 2 + 2 * negative_cosine(prediction, target)

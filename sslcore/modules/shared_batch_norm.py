"""Batch norm whose statistics are those of the batch of all processes, on any device."""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslcore.distributed import gather_rows, world_size
from sslcore.errors import ShapeError
from sslcore.numerics import in_full_precision


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes; with one process, or in evaluation, torch's own.

    Value, running statistics and, after the mean of the gradients that `DistributedDataParallel`
    takes, gradients are those of one process with the joined batch, whatever rows each process
    has. Names of the state dict are those of `nn.BatchNorm1d`, `2d` and `3d`. One gathering
    forward and one sum backward, both of two numbers per channel.

    It is written in plain tensor operations. On CUDA torch's `SyncBatchNorm` does the same in
    fused kernels, which exist nowhere else.

    Source:
        Parts are joined as in Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm
        for computing sample variances", COMPSTAT 1982: nothing cancels where the mean is large.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise `[batch, channels, ...]`; the result has the dtype of the input.

        Raises:
            ShapeError: All processes together have less than two values per channel.
        """
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        normalised, mean, variance = _normalise(
            input, weight=self.weight, bias=self.bias, eps=self.eps
        )
        self._move_statistics(mean.detach(), variance.detach())
        return normalised.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ShapeError(
                f"expected [batch, {self.num_features}, ...], got {tuple(input.shape)}"
            )

    def _move_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / self.num_batches_tracked.item() if share is None else share
        self.running_mean.lerp_(mean.to(self.running_mean), share or 0.0)
        self.running_var.lerp_(variance.to(self.running_var), share or 0.0)


def share_batch_norms(module: nn.Module) -> None:
    """Turn every batch norm in `module`, itself too, into a `SharedBatchNorm`, in place.

    The objects stay the same, so whoever holds one, such as an optimiser or a second name, holds
    it still.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.__class__ = SharedBatchNorm


@in_full_precision
def _normalise(
    rows: Tensor, *, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised rows, and mean and unbiased variance of all processes by channel."""
    dims = [0, *range(2, rows.ndim)]
    per_channel = (-1, *[1] * (rows.ndim - 2))
    count = math.prod(rows.shape[dim] for dim in dims)
    own = rows.sum(dims) / max(1, count)  # some processes may have no rows
    centred = rows - own.view(per_channel)
    means, squares, counts = gather_rows(
        torch.stack([own, centred.square().sum(dims), own.new_full(own.shape, count)])[None]
    ).unbind(1)  # each [processes, channels]
    total = counts[:, 0].sum()
    if total < 2:
        raise ShapeError(
            f"batch norm needs two values per channel or more, got {int(total)} in all processes"
        )
    mean = (counts * means).sum(0) / total
    squares = (squares + counts * (means - mean).square()).sum(0)
    scale = (squares / total + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = (own - mean) * scale
    shift = shift if bias is None else shift + bias
    normalised = torch.addcmul(shift.view(per_channel), centred, scale.view(per_channel))
    return normalised, mean, squares / (total - 1)

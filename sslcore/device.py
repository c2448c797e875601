"""Device, precision and processes of a run, chosen once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cuda import CUDAAccelerator
from lightning_fabric.accelerators.mps import MPSAccelerator
from torch import nn

from sslcore.config import suggest
from sslcore.errors import ConfigError, ProcessError
from sslcore.modules.shared_batch_norm import share_batch_norms
from sslcore.training.settings import RunConfig

_AVAILABLE: dict[str, Callable[[], bool]] = {
    "cuda": CUDAAccelerator.is_available,
    "mps": MPSAccelerator.is_available,
    "cpu": lambda: True,
}


def build_fabric(run: RunConfig) -> Fabric:
    """Choose device, precision and strategy; the caller launches it.

    With several processes Fabric starts the program again, once per further process, with the
    same arguments. So launch before anything is written.

    Raises:
        ConfigError: An unknown device, one that is not there, too many, or a precision that the
            device does not have.
    """
    device = choose_device(run.device)
    if device == "mps" and run.devices > 1:
        raise ConfigError(f"run.devices {run.devices}: mps has one device; set it to 1")
    if device == "cuda" and run.devices > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"run.devices {run.devices}: this machine has {count}; set it to that")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # who joined which group
    return Fabric(
        accelerator=device,
        devices=run.devices,
        strategy="ddp" if run.devices > 1 else "auto",
        precision=choose_precision(run.precision, device),
    )


def choose_device(name: str) -> str:
    """Return `name` or, for "auto", the best of cuda, mps and cpu that is there.

    Raises:
        ConfigError: An unknown device, or one that is not there.
    """
    if name == "auto":
        return next(device for device, is_available in _AVAILABLE.items() if is_available())
    if name not in _AVAILABLE:
        raise ConfigError(f"unknown device {name!r}; {suggest(name, ['auto', *_AVAILABLE])}")
    if not _AVAILABLE[name]():
        raise ConfigError(f"this machine has no {name} device that torch can use; try auto")
    return name


def choose_precision(
    name: Literal["auto", "32-true", "bf16-mixed", "16-mixed"], device: str
) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Return `name` or, for "auto", bf16-mixed on a cuda device that computes in it, else 32-true.

    Raises:
        ConfigError: fp16 on a CPU, where its gradients could not be scaled.
    """
    if name == "16-mixed" and device == "cpu":
        raise ConfigError("run.precision 16-mixed needs cuda or mps; take bf16-mixed or 32-true")
    if name != "auto":
        return name
    has_bf16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"


def share_batch_statistics(method: nn.Module, fabric: Fabric) -> None:
    """Let the batch norms of `method` see the batches of all processes.

    On cuda by torch's own module, whose kernels are fused and exist there only; elsewhere by
    `SharedBatchNorm`.
    """
    if fabric.world_size == 1:
        return
    if fabric.device.type != "cuda":
        share_batch_norms(method)
        return
    for name, child in list(method.named_children()):
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        setattr(method, name, convert(child))


@contextmanager
def all_or_none(fabric: Fabric) -> Iterator[None]:
    """Let all processes leave the block alike: if it raises in one, it raises in all.

    Without this, the others would wait for ever for the one that failed. The block must not wait
    for other processes itself.

    Raises:
        ProcessError: The block failed in another process.
    """
    try:
        yield
    except Exception:  # Ctrl-C reaches every process by itself
        _count_failures(fabric, failed=True)
        raise
    if _count_failures(fabric, failed=False):
        raise ProcessError("another process of this run stopped; its message says why")


def _count_failures(fabric: Fabric, *, failed: bool) -> int:
    if fabric.world_size == 1:
        return int(failed)
    mine = torch.tensor(float(failed), device=fabric.device)
    total = fabric.all_reduce(mine, reduce_op="sum")
    return round(torch.as_tensor(total).item())

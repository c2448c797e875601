"""A step of every method against a plain forward and backward of two views of the same network.

Run: python benchmarks/methods_cost.py [METHOD ...]

A step is loss, gradient, optimiser and teacher, with two full views and the method's defaults on
random images: views and reading cost the same for all, and are left out. ResNet-18 at 64 px; where
a method hides patches, a small transformer, plain passes of the same included. Time: processor
time, plain and method in turns, median of the ratios. Memory: what a process of its own holds at
most, less what it held before the network was built. Smaller crops, where a method has them by
default, are left out too: what they cost depends on their number and size.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from record import earlier, keep
from torch import Tensor, nn

from medssl.backbone import Backbone
from medssl.backbones import build_backbone
from sslcore.methods.registry import CONFIGS, METHODS
from sslcore.random import derive_keys, seeded
from sslcore.training.optimizers import build_optimizer
from sslcore.training.settings import OptimConfig
from sslcore.views import ViewBatch

BATCH, SIZE = 16, 64  # images, px
ROUNDS = 5
BUDGET = {"batch": BATCH, "size_px": SIZE, "rounds": ROUNDS}
PLAIN = "plain"
BY_NAME = {each.model_fields["name"].default: each for each in CONFIGS}
TEACHERS = ("moco", "moco_v2", "moco_v3", "byol", "dino", "dinov2", "dinov3")

Step = Callable[[], None]


def main() -> None:
    """Measure the methods named on the command line, or all; or the memory of one.

    Rows that were measured in the same way stay if they are not asked for anew.
    """
    if sys.argv[1:2] == ["--peak"]:
        print(json.dumps(peak_mib(*sys.argv[2:])))
        return
    torch.set_num_threads(1)
    recorded = earlier("methods_cost", BUDGET).get("methods", {})
    rows = {**recorded, **{name: of_method(name) for name in sys.argv[1:] or METHODS}}
    ordered = {name: rows[name] for name in METHODS if name in rows}
    keep("methods_cost", {**BUDGET, "methods": ordered})


def of_method(name: str) -> dict[str, object]:
    """Return time and memory of a method beside those of its plain passes."""
    plain, step = step_of(PLAIN, network_of(name)), step_of(name, network_of(name))
    for each in (plain, step):
        each()
    times = [(_seconds(plain), _seconds(step)) for _ in range(ROUNDS)]
    peaks = [_peak(each, network_of(name)) for each in (PLAIN, name)]
    row: dict[str, object] = {
        "network": network_of(name),
        "teacher": name in TEACHERS,
        "plain_ms": round(1000 * statistics.median(plain for plain, _ in times)),
        "time_ratio": round(statistics.median(own / plain for plain, own in times), 3),
        "plain_mib": peaks[0],
        "memory_ratio": round(peaks[1] / peaks[0], 3),
    }
    print(name, row, file=sys.stderr)
    return row


def network_of(name: str) -> str:
    """Return the network that a method is measured with."""
    return "vit_tiny" if BY_NAME[name].needs_tokens else "resnet18"


def step_of(name: str, network: str) -> Step:
    """Return a function that makes one step."""
    with seeded(0):
        backbone = build_backbone(network, channels=1, image_size=SIZE)
        views = tuple(torch.randn(BATCH, 1, SIZE, SIZE) for _ in range(2))
        method = None if name == PLAIN else BY_NAME[name]().build(backbone, backbone.feature_dim)
    keys = derive_keys(torch.arange(BATCH))
    batch = ViewBatch(views, keys=keys, labels=torch.arange(BATCH) % 2)
    trained: nn.Module = method or backbone
    trained.train()
    optimizer = build_optimizer(
        trained, OptimConfig(name="adamw"), batch_size=BATCH, default_rate=1e-4
    )

    def step() -> None:
        loss = method(batch).loss if method else _plain_loss(backbone, views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if method:
            method.after_step(0.0)

    return step


def _plain_loss(backbone: Backbone, views: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([backbone(view).square().mean() for view in views]).sum()


def _seconds(step: Step) -> float:
    began = time.process_time()
    step()
    return time.process_time() - began


def _peak(name: str, network: str) -> float:
    done = subprocess.run(
        [sys.executable, __file__, "--peak", name, network],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.splitlines()[-1])


def peak_mib(name: str, network: str) -> float:
    """Return what three steps hold at most, in MiB."""
    torch.set_num_threads(1)
    before = _most_held()
    step = step_of(name, network)
    for _ in range(3):
        step()
    return round((_most_held() - before) / 1024, 1)


def _most_held() -> int:
    """Return the most this process ever held, KiB; getrusage would count its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()

"""A step of every method against a plain forward and backward of two views of the same network.

Run: python benchmarks/methods_cost.py [METHOD ...]

A step is loss, gradient, optimiser and teacher, with two full views and the method's defaults on
random images: views and reading cost the same for all, and are left out. ResNet-18 at 64 px; where
a method hides patches, a small transformer, plain passes of the same included. Time: processor
time, plain and method in turns, median of the ratios. Memory: what a process of its own holds at
most, less what it held before the network was built. What a method costs with the smaller crops it
has by default stands beside that, and SimCLR on both networks.
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
from medssl.backbones import build_backbone, side_multiple
from medssl.views import choose_local_size
from sslcore.methods.registry import CONFIGS, METHODS
from sslcore.random import derive_keys, seeded
from sslcore.training.optimizers import build_optimizer
from sslcore.training.settings import OptimConfig
from sslcore.views import ViewBatch

BATCH, SIZE = 16, 64  # images, px
ROUNDS = 5
BUDGET = {"batch": BATCH, "size_px": SIZE, "rounds": ROUNDS}
PLAIN = "plain"
NETWORKS = ("resnet18", "vit_tiny")  # the second for methods that hide patches
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
    simclr = {
        NETWORKS[0]: ordered["simclr"]["time_ratio"],
        NETWORKS[1]: ratio_of("simclr", NETWORKS[1])[1],
    }
    keep("methods_cost", {**BUDGET, "simclr_time_ratio": simclr, "methods": ordered})


def of_method(name: str) -> dict[str, object]:
    """Return time and memory of a method beside those of its plain passes."""
    plain_ms, ratio = ratio_of(name, network_of(name))
    peaks = [_peak(each, network_of(name)) for each in (PLAIN, name)]
    crops = BY_NAME[name].views.local_views
    row: dict[str, object] = {
        "network": network_of(name),
        "teacher": name in TEACHERS,
        "plain_ms": plain_ms,
        "time_ratio": ratio,
        "time_ratio_with_crops": ratio_of(name, network_of(name), crops)[1] if crops else None,
        "plain_mib": peaks[0],
        "memory_ratio": round(peaks[1] / peaks[0], 3),
    }
    print(name, row, file=sys.stderr)
    return row


def ratio_of(name: str, network: str, crops: int = 0) -> tuple[int, float]:
    """Return the time of the plain passes, ms, and how many times as long a step of the method is.

    Args:
        name: Of the method.
        network: What it trains.
        crops: Smaller ones beside its two views; the plain passes have none.
    """
    plain, step = step_of(PLAIN, network), step_of(name, network, crops)
    for each in (plain, step):
        each()
    times = [(_seconds(plain), _seconds(step)) for _ in range(ROUNDS)]
    return (
        round(1000 * statistics.median(plain for plain, _ in times)),
        round(statistics.median(own / plain for plain, own in times), 3),
    )


def network_of(name: str) -> str:
    """Return the network that a method is measured with."""
    return NETWORKS[BY_NAME[name].needs_tokens]


def step_of(name: str, network: str, crops: int = 0) -> Step:
    """Return a function that makes one step."""
    with seeded(0):
        backbone = build_backbone(network, channels=1, image_size=SIZE)
        views = tuple(torch.randn(BATCH, 1, SIZE, SIZE) for _ in range(2))
        side = choose_local_size(SIZE, multiple_of=side_multiple(network, SIZE, "auto"))
        smaller = tuple(torch.randn(BATCH, 1, side, side) for _ in range(crops))
        method = None if name == PLAIN else BY_NAME[name]().build(backbone, backbone.feature_dim)
    keys = derive_keys(torch.arange(BATCH))
    batch = ViewBatch((*views, *smaller), keys=keys, labels=torch.arange(BATCH) % 2)
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

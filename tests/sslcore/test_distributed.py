"""Processes on parts of a batch equal one on the whole: value, gradient, running statistics."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import UniformHistogramMiner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sslcore.distributed import gather_rows, own_part, world_size
from sslcore.errors import ShapeError
from sslcore.methods.dino import Dino
from sslcore.methods.dinov2 import DinoV2, TokenBranch
from sslcore.methods.dinov3 import Anchoring, DinoV3
from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.metric_learning import MetricLearning
from sslcore.methods.moco import Moco
from sslcore.methods.moco_v3 import MoCoV3
from sslcore.methods.nnclr import NNCLR
from sslcore.methods.registry import METHODS
from sslcore.methods.simsiam import SimSiam
from sslcore.methods.supcon import SupCon
from sslcore.methods.swav import Swav
from sslcore.methods.triplet import Triplet, triplet_objective
from sslcore.modules.branch import Branch, set_micro_batch
from sslcore.modules.center import RunningCenter, SinkhornCentering
from sslcore.modules.distillation_head import DistillationHead
from sslcore.modules.prototypes import Prototypes
from sslcore.modules.queue import FeatureQueue
from sslcore.modules.shared_batch_norm import share_batch_norms
from sslcore.objectives.barlow_twins import BarlowTwins
from sslcore.objectives.decoupled import Decoupled
from sslcore.objectives.info_nce import InfoNCE
from sslcore.objectives.metric_learning import AlignedViews
from sslcore.objectives.nt_xent import NTXent
from sslcore.objectives.sinkhorn import sinkhorn
from sslcore.objectives.vicreg import VICReg
from sslcore.random import derive_keys
from sslcore.views import ViewBatch
from tests.reference.waves import wave
from tests.sslcore.normed_parts import NORMS, PARTS, normed_method, run_norm
from tests.sslcore.toy_tokens import ToyTokens, as_image

ROWS = 12  # of all processes together
WORLDS = (2, 4)
UNEVEN = {2: [6, 2], 4: [3, 1, 2, 2]}  # parts of 8 rows
ONE_GROUP = (
    *("moco", "triplet with memory", "supcon", "nnclr"),
    *("swav", "dino", "dinov2", "dinov2 softmax", "dinov3"),
)
SHARES = sinkhorn(wave(8, 6, 0.3))
Result = tuple[float, dict[str, Tensor], dict[str, Tensor]]


def methods() -> dict[str, ViewMethod]:
    """Every method that compares rows, and one that does not; none with batch norm."""

    def branch() -> Branch:
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        return Branch(encoder, nn.Linear(8, 4)).double()

    def heads(count: int, width: int) -> list[nn.Module]:
        return [DistillationHead([width, 8, 4], 7).double() for _ in range(count)]

    def tokens() -> TokenBranch:
        torch.manual_seed(0)
        return TokenBranch(ToyTokens(8, patch_size=(1, 2)), *heads(2, 8)).double()

    torch.manual_seed(1)
    centers = [RunningCenter(7).double() for _ in range(3)]
    sinkhorns = (SinkhornCentering(), SinkhornCentering())
    queue, memory = FeatureQueue(16, 4).double(), FeatureQueue(30, 4).double()
    in_parts = JointEmbedding(branch(), NTXent())
    set_micro_batch(in_parts, 2)
    return {
        "simclr in parts": in_parts,
        "simclr": JointEmbedding(branch(), NTXent()),
        "barlow_twins": JointEmbedding(branch(), BarlowTwins()),
        "vicreg": JointEmbedding(branch(), VICReg()),
        "moco": Moco(branch(), queue),
        "triplet": Triplet(branch(), triplet_objective(mining="hard", margin=1.0)),
        "triplet with memory": Triplet(
            branch(), triplet_objective(mining="hard", margin=1.0), memory
        ),
        "infonce": JointEmbedding(branch(), InfoNCE(symmetric=True)),
        "dcl": JointEmbedding(branch(), Decoupled()),
        "supcon": SupCon(branch()),
        "moco_v3": MoCoV3(branch(), nn.Linear(4, 4).double()),
        "nnclr": NNCLR(branch(), nn.Linear(4, 4).double(), FeatureQueue(16, 4).double()),
        "metric_learning": MetricLearning(
            branch(), AlignedViews(MultiSimilarityLoss(), UniformHistogramMiner())
        ),
        "simsiam": SimSiam(branch(), nn.Linear(4, 4).double()),
        "swav": Swav(branch(), Prototypes(7, 4).double(), FeatureQueue(25, 4).double()),
        "dino": Dino(Branch(branch().encoder, *heads(1, 8)), centers[0]),
        "dinov2": DinoV2(tokens(), sinkhorns),
        "dinov2 softmax": DinoV2(tokens(), (centers[1], centers[2])),
        "dinov3": DinoV3(tokens(), sinkhorns, anchoring=Anchoring(kept_at=0.0, start=0.0)),
    }


CASES = [(name, False) for name in (*methods(), *(f"registered {each}" for each in METHODS))] + [
    (name, True) for name in methods() if name not in ONE_GROUP
]


def build(name: str) -> ViewMethod:
    """One of `methods`, or one of the registry as it is built, with batch norms."""
    kind, _, registered = name.partition("registered ")
    return normed_method(registered) if registered else methods()[kind]


def batch(name: str, step: int, *, world: int, segments: bool) -> list[ViewBatch[Tensor]]:
    """The parts of all processes; joined by `joined`."""
    generator = torch.Generator().manual_seed(step)
    rows, parts = ROWS // world, []
    shape = (rows, 1, 12, 12) if name.startswith("registered") else (rows, 5)
    for rank in range(world):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        noise = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        views: tuple[Tensor, ...] = (x, x + noise, x - noise)  # the last as a smaller crop
        if name.startswith("dinov"):
            views = tuple(as_image(view, 4) for view in views)
        keys = derive_keys(torch.arange(rows), rank, step)
        labels = torch.arange(rows) % 4 - 1
        ids = rows * rank + torch.arange(rows)  # the same in every step
        third = rows // 3
        parts.append(ViewBatch(views, (third, rows - third) if segments else (), keys, labels, ids))
    return parts


def joined(parts: list[ViewBatch[Tensor]]) -> ViewBatch[Tensor]:
    """Segment by segment, the rows of all processes."""
    sizes = parts[0].segments or (len(parts[0].views[0]),)
    views = []
    for view in range(len(parts[0].views)):
        pieces = zip(*(part.views[view].split(list(sizes)) for part in parts), strict=True)
        views.append(torch.cat([torch.cat(piece) for piece in pieces]))
    keys = torch.cat([part.keys for part in parts if part.keys is not None])
    labels = torch.cat([part.labels for part in parts if part.labels is not None])
    ids = torch.cat([part.ids for part in parts if part.ids is not None])
    segments = tuple(len(parts) * n for n in parts[0].segments)
    return ViewBatch(tuple(views), segments, keys, labels, ids)


def two_steps(method: ViewMethod, wrapped: nn.Module, batches: list[ViewBatch[Any]]) -> Result:
    loss = torch.zeros(())
    for each in batches:
        method.zero_grad()
        loss = wrapped(each).loss
        loss.backward()
        with torch.no_grad():
            for parameter in method.student.parameters():
                assert parameter.grad is not None
                parameter.sub_(0.1 * parameter.grad)
        method.after_step(0.5)
    grads = {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
    return loss.item(), grads, method.state_dict()


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world
    )
    results: dict[str, Result] = {}
    for name, segments in CASES:
        method = build(name)
        share_batch_norms(method)
        parts = [batch(name, step, world=world, segments=segments) for step in (0, 1)]
        results[f"{name} {segments}"] = two_steps(
            method, DistributedDataParallel(method), [each[rank] for each in parts]
        )
    z = torch.arange(3.0)[:, None] + 10 * rank
    assert world_size() == world
    assert gather_rows(z)[:, 0].tolist() == [
        10 * each + n for each in range(world) for n in range(3)
    ]
    assert own_part(torch.arange(5)).tolist() == list(range(rank, 5, world))
    uneven = wave(8, 6, 0.3).split(UNEVEN[world])[rank]
    torch.testing.assert_close(sinkhorn(uneven), SHARES.split(UNEVEN[world])[rank])
    norms = {
        f"{name} {parts}": run_norm(name, sizes, rank)
        for name in NORMS
        for parts, sizes in PARTS[world].items()
    }
    with pytest.raises(ShapeError, match="two values per channel or more, got 1 in all"):
        run_norm("rows", [1, *[0] * (world - 1)], rank)
    torch.save({"methods": results, "norms": norms}, folder / f"results-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=WORLDS, ids="{} processes".format)
def spawned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder, world = tmp_path_factory.mktemp("processes"), request.param
    mp.spawn(work, args=(world, folder), nprocs=world)
    return [
        torch.load(folder / f"results-{rank}.pt", weights_only=True)  # noqa: TID251
        for rank in range(world)
    ]


@pytest.fixture
def all_ranks(spawned: list[dict[str, Any]]) -> list[dict[str, Result]]:
    return [each["methods"] for each in spawned]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "segments"), CASES)
def test_processes_equal_one_on_the_joined_batch(
    name: str, segments: bool, all_ranks: list[dict[str, Result]]
) -> None:
    method, world = build(name), len(all_ranks)
    whole = [joined(batch(name, step, world=world, segments=segments)) for step in (0, 1)]
    loss, grads, state = two_steps(method, method, whole)
    outputs = [results[f"{name} {segments}"] for results in all_ranks]
    # Where rows are not compared each process reports the loss of its own rows.
    losses = torch.tensor([output[0] for output in outputs])
    torch.testing.assert_close(losses.mean().item(), loss, rtol=1e-5, atol=1e-5)
    for _, their_grads, their_state in outputs:
        torch.testing.assert_close(their_grads, grads, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(their_state, dict(state), rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("parts", ["even", "uneven", "empty"])
@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_parts_is_torchs_of_the_whole(
    name: str, parts: str, spawned: list[dict[str, Any]]
) -> None:
    whole = run_norm(name, [8])
    theirs = [each["norms"][f"{name} {parts}"] for each in spawned]
    for key, value in whole.items():
        values = [each[key] for each in theirs]
        if key.startswith("rows"):
            values = [torch.cat(values)]
        elif key.endswith("grad"):
            values = [torch.stack(values).sum(dim=0)]
        for each in values:
            torch.testing.assert_close(each, value)
    assert all(each.keys() == whole.keys() for each in theirs)


@pytest.mark.slow
def test_rows_compared_across_processes_give_all_of_them_the_same_loss(
    all_ranks: list[dict[str, Result]],
) -> None:
    for name in ("simclr", "barlow_twins", "vicreg", "triplet", "triplet with memory"):
        first, *others = (results[f"{name} False"][0] for results in all_ranks)
        assert others == [pytest.approx(first, rel=1e-12)] * len(others), name


def test_one_process_gathers_its_own_rows() -> None:
    z = torch.randn(3, 2)
    assert gather_rows(z) is z
    assert world_size() == 1

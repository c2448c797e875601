"""All that one training run is made of, built from its configuration and data set."""

from dataclasses import dataclass
from typing import assert_never

import torch
from scipy.sparse import csr_array
from torch.optim import Optimizer

from recssl.batches import BatchMaker
from recssl.dataset import Dataset
from recssl.encoders.encoder import EmbeddingTable, NodeEncoder
from recssl.encoders.lightgcn import LightGCN
from recssl.encoders.mf import MatrixFactorisation
from recssl.encoders.towers import TwoTowers, has_features
from recssl.errors import LogError
from recssl.graph import InteractionGraph
from recssl.health import RecMonitor
from recssl.methods.joint import Recommendation
from recssl.methods.registry import build_recommendation
from recssl.readout import Readout
from recssl.settings.train import LightGCNConfig, MFConfig, TowersConfig, TrainConfig
from recssl.svd import svd_start
from sslcore.methods.settings import MethodSection
from sslcore.random import seeded
from sslcore.training.row_adam import RowAdam


@dataclass(frozen=True, slots=True)
class RunParts:
    """All that one run is made of."""

    config: TrainConfig
    dataset: Dataset
    graph: InteractionGraph
    method: Recommendation
    optimizer: Optimizer
    batches: BatchMaker
    monitor: RecMonitor
    has_validation: bool

    @property
    def steps(self) -> int:
        """Of the whole run, if it is not ended early."""
        run = self.config.run
        return run.steps or run.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Batches that together are about as many pairs as there are interactions."""
        return max(1, self.graph.num_edges // self.config.run.batch_size)

    def describe(self, device: torch.device) -> str:
        """Say what was chosen."""
        run, graph = self.config.run, self.graph
        return (
            f"{graph.num_users} users, {graph.num_items} items, {graph.num_edges} interactions;"
            f" {method_name(self.config)} of {self.method.encoder.dim} dimensions on"
            f" {device.type}, up to {self.steps} steps of {run.batch_size}{self._left_out()}"
        )

    def _left_out(self) -> str:
        count = self.monitor.left_out
        return f"; {count} validation users of whom nothing is known are left out" if count else ""


def method_name(config: TrainConfig) -> str:
    """Return encoder, ranking and self-supervised part in one word."""
    parts = [config.encoder.name, config.ranking.name]
    return "+".join([*parts, config.contrast.name] if config.contrast else parts)


def assemble(config: TrainConfig, dataset: Dataset, device: torch.device) -> RunParts:
    """Build the parts.

    Raises:
        SSLError: The data set cannot be trained on, or not with these settings.
    """
    learnt, valid = _matrices(config, dataset)
    _require_two_sides(learnt)
    graph = InteractionGraph(learnt)
    _require_room(config, graph)
    with seeded(config.run.seed):
        encoder = build_encoder(config, dataset, graph)
        method = build_recommendation(
            config.ranking,
            config.contrast,
            encoder,
            weight=config.contrast_weight,
            queue_size=config.sampling.queue,
        )
    method.to(device)
    readout = Readout(
        learnt,
        cosine=method.ranking.cosine,
        layers=config.readout_layers,
        weight=config.readout.weight,
        popularity=config.readout.popularity,
    )
    knows_users = isinstance(config.encoder, TowersConfig) and has_features(dataset.users)
    monitor = RecMonitor(
        method.embed_all,
        readout,
        learnt,
        valid,
        support=None if knows_users else dataset.support,
        num_users=config.run.health_samples,
        seed=config.run.seed,
    )
    _require_known_users(monitor)
    return RunParts(
        config,
        dataset,
        graph,
        method,
        _build_optimizer(method, config),
        BatchMaker(graph, encoder, config, method.queue),
        monitor,
        has_validation=valid.nnz > 0,
    )


def build_encoder(config: TrainConfig, dataset: Dataset, graph: InteractionGraph) -> NodeEncoder:
    """Build the untrained encoder; what is random comes from torch's global generator.

    Raises:
        DatasetError: Towers without any features.
    """
    chosen = config.encoder
    encoder: EmbeddingTable
    match chosen:
        case TowersConfig():
            return TwoTowers(
                dataset.users, dataset.items, chosen.dim, hidden_dims=chosen.hidden_dims
            )
        case MFConfig():
            encoder = MatrixFactorisation(graph.num_users, graph.num_items, chosen.dim)
        case LightGCNConfig():
            encoder = LightGCN(
                graph.num_users,
                graph.num_items,
                chosen.dim,
                graph.adjacency(),
                layers=chosen.layers,
                skip_input=chosen.skip_input,
            )
        case _:
            assert_never(chosen)
    if chosen.start == "svd":
        encoder.start_from(*svd_start(graph.matrix, chosen.dim, seed=config.run.seed))
    return encoder


def _matrices(config: TrainConfig, dataset: Dataset) -> tuple[csr_array, csr_array]:
    """Return what is learnt from, and what is left to choose the best step."""
    learnt = dataset.learnt(config.data.learn_from)
    if config.data.learn_from == "train":
        return learnt, dataset.valid
    return learnt, csr_array(dataset.valid.shape, dtype=dataset.valid.dtype)


def _require_two_sides(learnt: csr_array) -> None:
    """Refuse a log in which there is nothing to compare.

    Raises:
        LogError: It has one user, or one item.
    """
    for count, name in zip(learnt.shape, ("user", "item"), strict=True):
        if count < 2:
            raise LogError(f"the log has {count} {name}; two or more are needed to rank anything")


def _require_room(config: TrainConfig, graph: InteractionGraph) -> None:
    """Raise `ConfigError` for a queue of the contrast that users or items of one step overflow."""
    if isinstance(config.contrast, MethodSection):
        most = max(graph.num_users, graph.num_items)  # each of them once
        config.contrast.require_room(min(config.run.batch_size, most), section="contrast")


def _require_known_users(monitor: RecMonitor) -> None:
    """Refuse to choose the best step by users of whom nothing is known.

    Raises:
        LogError: There is a validation part, and it has no other ones.
    """
    if monitor.left_out and not monitor.num_users:
        raise LogError(
            f"of none of the {monitor.left_out} users of the validation part is anything known that"
            " is learnt from, so the best step cannot be chosen; ingest with another --split"
            " (new_users keeps a known part), or keep the last step with"
            " --set data.learn_from=train+valid"
        )


def _build_optimizer(method: Recommendation, config: TrainConfig) -> RowAdam:
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in trained if p.ndim > 1],
            "weight_decay": config.optim.weight_decay,
        },
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return RowAdam(groups, lr=config.optim.learning_rate)

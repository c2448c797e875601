"""Puts a data set, a method and the training loop together into one run."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lightning_fabric import Fabric

from recssl.dataset import open_dataset
from recssl.errors import DatasetError
from recssl.health import RANKS, RecMeasurement
from recssl.run_folder import Embeddings, EmbeddingsInfo, RunFolder
from recssl.run_parts import RunParts, assemble, method_name
from recssl.settings.train import TrainConfig
from sslcore.console import Progress
from sslcore.device import build_fabric
from sslcore.schedules import warmup_cosine
from sslcore.training.checkpoint import (
    Checkpoint,
    load_latest_checkpoint,
    save_checkpoint,
    save_encoder,
)
from sslcore.training.health import Measured
from sslcore.training.history import History, read_history
from sslcore.training.interrupt import ctrl_c_is_noted
from sslcore.training.loop import LoopSettings, fit
from sslcore.training.recorder import Recorder, Rhythm


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Where a run ended.

    Attributes:
        embeddings: Users and items, and where they come from.
        steps: Optimiser steps done.
        best_step: That of the embeddings.
        recall: On the validation part at that step; None without one.
    """

    embeddings: Path
    steps: int
    best_step: int
    recall: float | None


def train(config: TrainConfig, out: Path, *, resume: bool = False) -> TrainResult:
    """Train embeddings and leave everything in the folder `out`; see `RunFolder`.

    With `resume` a run that was killed at any moment goes on from its last checkpoint; on one
    machine and device type, with the losses of the unbroken run.

    With a validation part the embeddings are those of the check with the best recall, and
    training ends early when it no longer rises; without one they are those of the last step.

    Raises:
        SSLError: The configuration, the data, the folder or a checkpoint cannot be used, or the
            training diverged or collapsed.
    """
    dataset = open_dataset(config.data.path)
    if config.data.fingerprint not in (None, dataset.fingerprint):
        raise DatasetError(
            f"{config.data.path} has fingerprint {dataset.fingerprint}, data.fingerprint asks for"
            f" {config.data.fingerprint}; give the data set the settings were made for"
        )
    resolved = config.model_copy(
        update={"data": config.data.model_copy(update={"fingerprint": dataset.fingerprint})}
    )
    folder = RunFolder(out)
    fabric = build_fabric(resolved.run)
    fabric.launch()
    with folder.opened(resolved, resume=resume):
        return _train(assemble(resolved, dataset, fabric.device), folder, fabric)


class _BestKeeper:
    """Stores the best embeddings, and tells when waiting for better ones has lasted too long."""

    def __init__(self, parts: RunParts, folder: RunFolder) -> None:
        self._parts = parts
        self._folder = folder
        self.best = -1.0
        self.best_step = 0
        self._waited = 0

    def recall(self) -> float | None:
        return self.best if self._parts.has_validation else None

    def replay(self, first_step: int) -> bool:
        """Take in the checks before `first_step`; tell whether the run has ended early."""
        checks = [c for c in read_history(self._folder.health) if c["step"] <= first_step]
        return any(self._take_in(c["step"], c.get(f"recall@{RANKS}")) for c in checks)

    def __call__(self, step: int, measured: Measured) -> bool:
        """Store `measured` if it is the best one; tell whether to end the run."""
        if not isinstance(measured, RecMeasurement):
            raise TypeError(f"expected a RecMeasurement, got {type(measured).__name__}")
        is_enough = self._take_in(step, measured.recall)
        if self.best_step == step:
            self._store(step, measured)
        return is_enough

    def _take_in(self, step: int, recall: float | None) -> bool:
        if recall is None or recall > self.best:
            self.best, self.best_step, self._waited = recall or 0.0, step, 0
            return False
        self._waited += 1
        return 0 < self._parts.config.run.patience <= self._waited

    def _store(self, step: int, measured: RecMeasurement) -> None:
        config, dataset = self._parts.config, self._parts.dataset
        info = EmbeddingsInfo(
            fingerprint=dataset.fingerprint,
            data=str(dataset.folder.resolve()),
            method=method_name(config),
            dim=measured.users.shape[1],
            step=step,
            popularity=config.readout.popularity,
        )
        self._folder.write_embeddings(Embeddings(measured.users, measured.items, info))
        encoder = self._parts.method.encoder
        about = {"num_users": encoder.num_users, "num_items": encoder.num_items, "step": step}
        described = config.encoder.model_dump(mode="json")
        save_encoder(self._folder.encoder, encoder, {"encoder": described, **about})


def _train(parts: RunParts, folder: RunFolder, fabric: Fabric) -> TrainResult:
    first_step = _restore(parts, folder)
    keeper = _BestKeeper(parts, folder)
    is_over = first_step > 0 and keeper.replay(first_step)
    run, optim = parts.config.run, parts.config.optim
    if not is_over:
        with ExitStack() as stack:
            progress = stack.enter_context(Progress("train"))
            progress.note(parts.describe(fabric.device))
            if not parts.has_validation:
                progress.note("no validation part: the embeddings of the last step are kept")
            recorder = Recorder(
                Rhythm(
                    steps=parts.steps,
                    health_every=run.health_every or parts.steps_per_epoch,
                    checkpoint_seconds=60 * run.checkpoint_minutes,
                ),
                log=History(folder.log),
                health_log=History(folder.health),
                monitor=parts.monitor,
                save=partial(_save, parts, folder),
                progress=progress,
                is_interrupted=stack.enter_context(ctrl_c_is_noted()),
                on_check=keeper,
                unit="pairs",
            )
            recorder.begin(first_step)
            fit(
                parts.method,
                parts.batches.draw(first_step),
                parts.optimizer,
                LoopSettings(parts.steps, run.batch_size, optim.clip_norm),
                fabric=fabric,
                prepare=partial(parts.batches.complete, device=fabric.device),
                schedule=partial(warmup_cosine, warmup=optim.warmup, floor=optim.floor),
                on_step=recorder,
                first_step=first_step,
            )
    steps = int(read_history(folder.log)[-1]["step"])
    return TrainResult(folder.embeddings, steps, keeper.best_step, keeper.recall())


def _restore(parts: RunParts, folder: RunFolder) -> int:
    """Load the last checkpoint, if there is one, and return its step."""
    checkpoint = load_latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return 0
    checkpoint.restore(parts.method, parts.optimizer)
    return checkpoint.step


def _save(parts: RunParts, folder: RunFolder, step: int) -> None:
    checkpoint = Checkpoint.take(step, parts.method, parts.optimizer, {})
    save_checkpoint(folder.checkpoints, checkpoint)

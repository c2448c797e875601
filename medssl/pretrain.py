"""Puts data, views, a method and the training loop together into one run."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from medssl.backbones import Backbone
from medssl.config import PretrainConfig
from medssl.encoder import store_encoder
from medssl.health import build_monitor
from medssl.loading.dataset import CanvasDataset, DecodedBatch
from medssl.loading.loader import build_loader
from medssl.loading.sampler import StepSampler
from medssl.manifest import read_manifest, write_manifest
from medssl.run_checks import check_micro_batch, check_names
from medssl.run_data import open_data, require_scanned, resolve
from medssl.run_folder import RunFolder, require_same_config
from medssl.run_parts import RunParts, assemble, describe
from medssl.sources.remote import require_usable
from medssl.view_maker import move_canvases
from sslcore.console import Progress
from sslcore.device import all_or_none, build_fabric
from sslcore.schedules import warmup_cosine
from sslcore.training.checkpoint import (
    Checkpoint,
    load_latest_checkpoint,
    save_checkpoint,
)
from sslcore.training.history import History, read_history
from sslcore.training.interrupt import ctrl_c_is_noted
from sslcore.training.loop import LoopSettings, StepRecord, fit
from sslcore.training.recorder import Recorder, Rhythm
from sslcore.views import ViewBatch


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """Where a run ended.

    Attributes:
        encoder: Weights; `encoder.json` beside them says how to rebuild the network.
        steps: Optimiser steps of the whole run.
        final_loss: Of the last step.
    """

    encoder: Path
    steps: int
    final_loss: float


def pretrain(config: PretrainConfig, out: Path, *, resume: bool = False) -> PretrainResult:
    """Pretrain an encoder and leave everything in the folder `out`; see `RunFolder`.

    With `resume` a run that was killed at any moment goes on from its last checkpoint; on one
    machine and device type, with the losses of the unbroken run.

    With several processes (`run.devices`) the program is started once more for each of them, and
    only the first returns from this function; the others end inside it.

    Raises:
        SSLError: The configuration, the data, the folder or a checkpoint cannot be used, or the
            training diverged or collapsed.
    """
    require_usable(config.data.path)
    check_names(config)
    check_micro_batch(config)
    folder = RunFolder(out)
    if config.run.devices > 1 and not folder.manifest.exists():
        require_scanned(config.data.path)
    fabric = build_fabric(config.run)
    fabric.launch()
    with ExitStack() as stack:
        with all_or_none(fabric):
            if fabric.is_global_zero:
                stack.enter_context(folder.opened(config, resume=resume))
                _settle(config, folder, resume=resume)
        result = _train(assemble(folder, fabric), folder, fabric)
    if not fabric.is_global_zero:
        sys.exit(0)
    return result


def _settle(config: PretrainConfig, folder: RunFolder, *, resume: bool) -> None:
    """Fix data and configuration of the run, before anything is computed."""
    if not folder.manifest.exists():
        data = open_data(config.data.path, scanned_to=folder.manifest, workers=config.data.workers)
        if not folder.manifest.exists():
            write_manifest(data, folder.manifest)
    manifest = read_manifest(folder.manifest)
    resolved = resolve(config, manifest)
    if resume:
        stored = resolve(folder.read_config(), manifest)
        require_same_config(resolved, stored, place=folder.config)
    folder.write_config(resolved)


def _train(parts: RunParts, folder: RunFolder, fabric: Fabric) -> PretrainResult:
    first_step = _restore(parts, folder, fabric)
    if parts.config.backbone.compile:
        for part in parts.method.modules():  # the student's encoder, and a teacher's
            if isinstance(part, Backbone):
                part.compile()
    run, optim = parts.config.run, parts.config.optim
    # workers start before the progress bar has its thread, as a fork with threads can hang
    batches = iter(_loader(parts, fabric, first_step))
    with ExitStack() as stack:
        recorder = None
        with all_or_none(fabric):
            if fabric.is_global_zero:
                progress = stack.enter_context(Progress("pretrain"))
                progress.note(describe(parts, fabric))
                stack.callback(_tell_blank, parts.dataset, progress)
                recorder = _recorder(parts, folder, fabric, progress, _interruption(stack, fabric))
                recorder.begin(first_step)

        def on_step(record: StepRecord) -> None:
            with all_or_none(fabric):
                if recorder:
                    recorder(record)

        fit(
            parts.method,
            batches,
            parts.optimizer,
            LoopSettings(parts.steps, run.batch_size, optim.clip_norm),
            fabric=fabric,
            prepare=partial(_make_views, parts, device=fabric.device),
            schedule=partial(warmup_cosine, warmup=optim.warmup, floor=optim.floor),
            decay=optim.decay_factor,
            on_step=on_step,
            first_step=first_step,
        )
    if fabric.is_global_zero:
        _store(parts, folder, parts.steps)
    return PretrainResult(folder.encoder, parts.steps, read_history(folder.log)[-1]["loss"])


def _restore(parts: RunParts, folder: RunFolder, fabric: Fabric) -> int:
    """Load the last checkpoint, if there is one, and return its step."""
    checkpoint = load_latest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        return 0
    checkpoint.restore(parts.method, parts.optimizer)
    if checkpoint.scaler:
        fabric.strategy.precision.load_state_dict(dict(checkpoint.scaler))
    return checkpoint.step


def _loader(parts: RunParts, fabric: Fabric, first_step: int) -> DataLoader[DecodedBatch]:
    run = parts.config.run
    sampler = StepSampler(
        len(parts.dataset),
        run.batch_size,
        seed=run.seed,
        first_step=first_step,
        last_step=parts.steps,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    return build_loader(
        parts.dataset,
        sampler,
        workers=parts.config.data.workers,
        pin_memory=fabric.device.type == "cuda",
    )


def _make_views(parts: RunParts, batch: DecodedBatch, *, device: torch.device) -> ViewBatch[Tensor]:
    pixels, seed = move_canvases(batch.pixels, device), parts.config.run.seed
    views = parts.maker(pixels, batch.index, seed=seed, epoch=batch.epoch)
    if parts.labels is None:
        return views
    return replace(views, labels=parts.labels[batch.index].to(device))


def _tell_blank(dataset: CanvasDataset, progress: Progress) -> None:
    if dataset.num_blank:
        progress.note(
            f"{dataset.num_blank} patches hold one value only, such as air: others of their"
            " volumes, where there are any, were learnt from instead"
        )


def _interruption(stack: ExitStack, fabric: Fabric) -> Callable[[], bool]:
    """Let Ctrl-C wait for the end of the step; several processes would wait for each other."""
    if fabric.world_size > 1:
        return lambda: False
    return stack.enter_context(ctrl_c_is_noted())


def _recorder(
    parts: RunParts,
    folder: RunFolder,
    fabric: Fabric,
    progress: Progress,
    is_interrupted: Callable[[], bool],
) -> Recorder:
    run = parts.config.run

    def save(step: int) -> None:
        scaler = fabric.strategy.precision.state_dict()
        checkpoint = Checkpoint.take(step, parts.method, parts.optimizer, scaler)
        save_checkpoint(folder.checkpoints, checkpoint)
        _store(parts, folder, step)

    return Recorder(
        Rhythm(
            steps=parts.steps,
            health_every=run.health_every or len(parts.dataset) // run.batch_size,
            checkpoint_seconds=60 * run.checkpoint_minutes,
        ),
        log=History(folder.log),
        health_log=History(folder.health),
        monitor=build_monitor(
            parts.images,
            parts.method.student,
            parts.maker,
            device=fabric.device,
            seed=run.seed,
            projects=parts.config.method.projects,
        ),
        save=save,
        progress=progress,
        is_interrupted=is_interrupted,
    )


def _store(parts: RunParts, folder: RunFolder, step: int) -> None:
    about = {"method": parts.config.method.name, "step": step, "steps": parts.steps}
    store_encoder(folder.encoder, parts.backbone, parts.spec, **about)

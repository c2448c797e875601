"""A run on disk: all that is needed to continue it, and the encoder alone.

RUN/checkpoint/step-00001234/
    state.safetensors    every tensor of the method and of the optimiser
    state.json           the rest: step, scalars, gradient scaler, and a digest of the tensors

No pickles: reading a checkpoint runs no code. The folder appears whole or not at all.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sslcore.errors import CheckpointError, OutputError
from sslcore.files import output_errors, whole_file, whole_folder, write_text

_FORMAT = 1
_TENSORS, _REST = "state.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run after `step` optimiser steps, on the CPU.

    Attributes:
        step: Optimiser steps done.
        method: The method's state dict.
        optimizer: Per parameter, by its number, the optimiser's state. Its options, such as the
            learning rate, come from the configuration and are not part of it.
        scaler: State of the gradient scaler; empty without one.
    """

    step: int
    method: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Any]]
    scaler: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def take(
        cls,
        step: int,
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: Mapping[str, Any],
    ) -> "Checkpoint":
        """Collect the state; it shares memory with what is trained, so save it before going on."""
        return cls(step, method.state_dict(), optimizer.state_dict()["state"], dict(scaler))

    def restore(self, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the state into a method and optimiser built from the same configuration.

        Raises:
            CheckpointError: They have other tensors, or tensors of other shapes.
        """
        groups = optimizer.state_dict()["param_groups"]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        try:
            method.load_state_dict(dict(self.method))
            state = {
                number: {name: _laid_out_like(parameters[number], value) for name, value in of_one}
                for number, of_one in ((n, entry.items()) for n, entry in self.optimizer.items())
            }
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(
                "the checkpoint is of another model, or of an earlier version that kept other"
                f" state; go on with that version, or start a new run: {error}"
            ) from error


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` below `folder`, then remove the older ones there.

    Raises:
        OutputError: The disk is full, or the place cannot be written; older checkpoints stay.
    """
    place = folder / f"step-{checkpoint.step:08d}"
    tensors = {f"method.{name}": value for name, value in checkpoint.method.items()}
    scalars: dict[str, Any] = {}
    for number, entries in checkpoint.optimizer.items():
        for name, value in entries.items():
            table = tensors if isinstance(value, Tensor) else scalars
            table[f"optimizer.{number}.{name}"] = value
    distinct, aliases = _without_aliases(tensors)
    if not place.exists():  # a run that is resumed and ends at once
        with whole_folder(place) as draft:
            write_tensors(draft / _TENSORS, distinct)
            rest = {
                "format": _FORMAT,
                "step": checkpoint.step,
                "digest": _digest(draft / _TENSORS),
                "aliases": aliases,
                "optimizer": scalars,
                "scaler": checkpoint.scaler,
            }
            (draft / _REST).write_text(json.dumps(rest, indent=1), encoding="utf-8")
    for older in _checkpoints(folder):
        if older != place:
            shutil.rmtree(older, ignore_errors=True)
    return place


def load_latest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the last checkpoint below `folder`; None if there is none yet.

    Raises:
        CheckpointError: It is damaged, or of another version. Nothing is removed.
    """
    places = _checkpoints(folder)
    if not places:
        return None
    place = places[-1]
    earlier = f"step {_step_of(places[-2])}" if len(places) > 1 else "the beginning"
    way_out = f"restore it from a copy, or remove {place} and resume from {earlier}"
    try:
        rest = json.loads((place / _REST).read_text(encoding="utf-8"))
        if rest["format"] != _FORMAT or rest["step"] != _step_of(place):
            raise CheckpointError(f"{place / _REST}: of another version or step; {way_out}")
        if rest["digest"] != _digest(place / _TENSORS):
            raise CheckpointError(f"{place / _TENSORS}: content has changed; {way_out}")
        tensors = load_file(place / _TENSORS)
        return _assemble(tensors, rest)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{place}: damaged ({error}); {way_out}") from error


def save_encoder(path: Path, module: nn.Module, about: Mapping[str, Any]) -> None:
    """Write weights to `path` and what is needed to rebuild the module to its `.json` neighbour.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    tensors, aliases = _without_aliases(module.state_dict())
    with whole_file(path) as draft:
        write_tensors(draft, tensors)
    description = {"format": _FORMAT, "aliases": aliases, **about}
    write_text(path.with_suffix(".json"), json.dumps(description, indent=1) + "\n")


def read_encoder_description(path: Path) -> dict[str, Any]:
    """Read what `save_encoder` was given as `about`; `path` is that of the weights.

    Raises:
        CheckpointError: There is none, it is damaged, or of another version.
    """
    neighbour = path.with_suffix(".json")
    try:
        description: dict[str, Any] = json.loads(neighbour.read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise CheckpointError(f"{neighbour}: of another version; pretrain again")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{neighbour}: not the description of an encoder") from error
    return description


def load_encoder_weights(path: Path, module: nn.Module) -> None:
    """Put the weights that `save_encoder` wrote into `module`.

    Raises:
        CheckpointError: The file is damaged, or holds another network.
    """
    aliases = read_encoder_description(path)["aliases"]
    try:
        tensors = load_file(path)
        module.load_state_dict(tensors | {name: tensors[first] for name, first in aliases.items()})
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not the weights of this encoder: {error}") from error


def _laid_out_like(parameter: Tensor, value: Any) -> Any:
    """Give `value` the memory format of `parameter`, such as channels last."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device="cpu").copy_(value)


def _assemble(tensors: dict[str, Tensor], rest: Mapping[str, Any]) -> Checkpoint:
    tensors |= {name: tensors[first] for name, first in rest["aliases"].items()}
    method: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Any]] = {}
    for name, value in (tensors | rest["optimizer"]).items():
        part, _, key = name.partition(".")
        if part == "method":
            method[key] = value
        else:
            number, _, entry = key.partition(".")
            optimizer.setdefault(int(number), {})[entry] = value
    return Checkpoint(rest["step"], method, optimizer, rest["scaler"])


def _without_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Separate tensors from further names of the same tensor, which safetensors refuses."""
    distinct: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first_names: dict[tuple[Any, ...], str] = {}
    memories: set[int] = set()
    for name, tensor in tensors.items():
        identity = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        first = first_names.setdefault(identity, name) if tensor.numel() else name
        if first != name:
            aliases[name] = first
            continue
        # views of one memory are refused too; what has its memory alone is written from there
        memory = tensor.untyped_storage()
        shares = memory.nbytes() != tensor.nbytes or memory.data_ptr() in memories
        memories.add(memory.data_ptr())
        distinct[name] = tensor.detach().to("cpu", copy=shares).contiguous()
    return distinct, aliases


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write `tensors` as safetensors, readable for whom the folder's other files are.

    What `metadata` says about them stands in the same file.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    try:
        with output_errors(path):
            path.touch()
            mode = path.stat().st_mode
            save_file(tensors, path, metadata)
            path.chmod(mode)  # safetensors would leave it readable for its owner only
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdigit())


def _step_of(place: Path) -> int:
    return int(place.name.removeprefix("step-"))

"""Embeddings and where they come from are one file: no kill leaves a mixed state."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recssl import run_folder
from recssl.run_folder import Embeddings, EmbeddingsInfo, RunFolder
from sslcore.errors import CheckpointError

INFO = EmbeddingsInfo("print", "/data", "mf+bpr", dim=2, step=1)


def embeddings(step: int) -> Embeddings:
    rows = np.full((3, 2), step, np.float32)
    return Embeddings(rows, rows[:2] * 2, replace(INFO, step=step))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_embeddings(embeddings(4))
    stored = folder.read_embeddings()
    assert stored.info == replace(INFO, step=4)
    assert (stored.users == 4).all()
    assert (stored.items == 8).all()
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.safetensors"]


def test_a_kill_at_any_moment_leaves_embeddings_of_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_embeddings(embeddings(1))
    write = run_folder.write_tensors

    def killed(path: Path, *arguments: object) -> None:
        write(path, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "write_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write_embeddings(embeddings(2))
    stored = folder.read_embeddings()
    assert stored.info.step == 1
    assert (stored.users == 1).all()


def test_a_file_of_another_version_or_without_an_origin_is_refused(tmp_path: Path) -> None:
    folder, rows = RunFolder(tmp_path), {"users": np.ones((1, 1)), "items": np.ones((1, 1))}
    about = {"fingerprint": "", "data": "", "method": "", "dim": 1, "step": 1, "format": 2}
    save_file(rows, folder.embeddings, {"about": json.dumps(about)})
    with pytest.raises(CheckpointError, match="of another version; train again"):
        folder.read_embeddings()
    save_file(rows, folder.embeddings)
    with pytest.raises(CheckpointError, match="lacks fingerprint or data; train again"):
        folder.read_embeddings()
    save_file(rows, folder.embeddings, {"about": "[1"})
    with pytest.raises(CheckpointError, match="damaged"):
        folder.read_embeddings()

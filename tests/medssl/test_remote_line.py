"""The whole line on a remote folder: what is fetched when, and that no secret comes out of it."""

from pathlib import Path

import polars as pl
import pytest

from medssl import encoder
from tests.medssl.object_store import ACCESS_KEY, BUCKET, SECRET, running
from tests.medssl.test_nobodys_name import (
    COUNT,
    PATIENTS,
    SECRETS,
    invoke,
    texts_of,
    write_planted_folder,
)
from tests.medssl.tiny_run import use_tiny_backbone

ROOT = f"s3://{BUCKET}/data"


def line(out: Path, labels: Path) -> dict[str, tuple[object, ...]]:
    """Return the commands of the whole line, by name."""
    manifest, run = out / "manifest.parquet", out / "run"
    small = ("run.steps=3", "run.batch_size=8", "run.device=cpu", "data.workers=1")
    settings = [word for one in (*small, "image_size=16") for word in ("--set", one)]
    stored = ("--set", f"data.store={out / 'store'}")
    few = ("--split", "patient", "--fraction", 1, "--repeats", 1)
    return {
        "scan": ("scan", ROOT, "--out", manifest, "--labels", labels),
        "cache": ("cache", manifest, "--out", out / "store", *settings),
        "stored": ("pretrain", manifest, "--out", run, *settings, *stored),
        "plain": ("pretrain", manifest, "--out", out / "plain", *settings),
        "direct": ("pretrain", ROOT, "--out", out / "direct", *settings, *stored),
        "embed": ("embed", run, manifest, "--out", out / "embeddings.parquet"),
        "finetune": ("finetune", run, "--out", out / "results", *few),
        "predict": ("predict", out / "results", manifest, "--out", out / "p.parquet"),
        "report": ("report", out / "results"),
    }


@pytest.mark.slow
def test_the_whole_line_fetches_a_file_for_all_its_images_and_tells_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use_tiny_backbone(monkeypatch)
    monkeypatch.setenv("MEDSSL_KEY_FILE", str(tmp_path / "own" / "site.key"))
    labels, out = write_planted_folder(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    said, fetched = {}, {}
    with running(monkeypatch) as store:
        store.empty()
        store.put_folder(tmp_path / "in", "data")
        for name, words in line(out, labels).items():
            store.fetched.clear()
            said[name] = invoke(*words)
            fetched[name] = list(store.fetched)

    rows = pl.read_parquet(out / "manifest.parquet")
    assert rows["label"].count() == PATIENTS * (COUNT + 1)
    usable = set(rows["path"])
    # a volume may lie in two blocks, those of 32 that `cache` reads, or of the threads of others
    most = len(usable) + max(len(rows) // 32, encoder._READERS - 1)
    assert len(fetched["scan"]) == len(set(fetched["scan"])) > len(usable)
    for name in ("cache", "embed", "predict"):
        assert set(fetched[name]) == {f"data/{path}" for path in usable}, name
        assert len(fetched[name]) <= most < len(rows), name
    assert not fetched["stored"]
    assert "fetched from the remote folder in every epoch" in said["plain"]
    assert "fetched from the remote folder" not in said["stored"]
    assert f"path: {ROOT}" in (out / "direct" / "config.yaml").read_text()

    captured = capfd.readouterr()
    contents = {**said, "stdout": captured.out, "stderr": captured.err}
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        contents |= {f"{path}/{name}": text for name, text in texts_of(path, with_paths=False)}
    assert len(files) > 10
    secrets = (*SECRETS, ACCESS_KEY.lower(), SECRET.lower())
    found = [
        (word, name) for word in secrets for name, text in contents.items() if word in text.lower()
    ]
    assert not found

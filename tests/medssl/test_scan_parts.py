"""The parts of a scan: walking, processes that die or are interrupted, results on the disk."""

import gzip
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from medssl.errors import DataError
from medssl.identity import SiteKey
from medssl.manifest import read_manifest, rejected_path
from medssl.scanning import worker
from medssl.scanning.parts import Parts
from medssl.scanning.pool import CrashProofPool
from medssl.scanning.scan import scan
from medssl.scanning.settings import ScanConfig
from medssl.scanning.walk import Found, walk
from medssl.scanning.worker import read_file
from tests.medssl.crashing import die_at_once, die_of, minus, read_slowly
from tests.medssl.make import colours, hospital, nifti, ramp, write_dicom, write_png

KEY = SiteKey(b"test")


@pytest.mark.slow
def test_worker_processes_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    root = hospital(tmp_path / "in")
    outs = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for out, workers in zip(outs, (1, 2), strict=True):
        scan(root, out, ScanConfig(workers=workers), key=KEY)
    one, two = (read_manifest(out).rows for out in outs)
    assert one.equals(two)
    assert pl.read_parquet(rejected_path(outs[0])).equals(pl.read_parquet(rejected_path(outs[1])))


@pytest.mark.slow
def test_a_process_that_dies_costs_only_the_job_at_fault() -> None:
    work = partial(die_of, frozenset({7}))
    pool = CrashProofPool(work, minus, workers=2, chunk=2)
    assert sorted(pool.run(list(range(1, 12)))) == [-7, *(n for n in range(1, 12) if n != 7)]


@pytest.mark.slow
def test_processes_that_cannot_start_are_no_fault_of_the_jobs() -> None:
    work = partial(die_of, frozenset())
    pool = CrashProofPool(work, minus, workers=1, chunk=2, initializer=die_at_once)
    with pytest.raises(DataError, match="no worker process lives"):
        list(pool.run([1, 2, 3]))


@pytest.mark.slow
def test_a_decoder_that_does_not_end_costs_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b slow.png", "c.png"):
        write_png(tmp_path / "in" / name, colours())
    monkeypatch.setattr(worker, "read_files", read_slowly)
    out = tmp_path / "manifest.parquet"
    scan(tmp_path / "in", out, ScanConfig(workers=1, file_seconds=1.5), key=KEY)
    assert read_manifest(out).rows["path"].to_list() == ["a.png", "c.png"]
    (aside,) = pl.read_parquet(rejected_path(out)).rows(named=True)
    assert (aside["path"], aside["reason"]) == ("b slow.png", "decoder_timeout")
    assert aside["detail"] == "not read after 1.5 seconds"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_file_that_needs_more_memory_than_allowed_is_set_aside(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", colours())
    large = nifti(np.zeros((900, 900, 800), np.uint8))
    (tmp_path / "in" / "b.nii.gz").write_bytes(gzip.compress(large, 1))
    out = tmp_path / "manifest.parquet"
    scan(tmp_path / "in", out, ScanConfig(workers=1, memory_gb=0.6), key=KEY)
    assert read_manifest(out).rows["path"].to_list() == ["a.png"]
    assert pl.read_parquet(rejected_path(out))["reason"].to_list() == ["too_large"]


def test_links_out_of_the_root_pipes_and_hidden_folders_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_png(root / "a.png", colours())
    write_png(root / ".snapshot" / "a.png", colours())
    write_png(tmp_path / "out" / "secret.png", colours())
    (root / "inside").symlink_to("a.png")
    (root / "outside").symlink_to(tmp_path / "out" / "secret.png")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "circle").symlink_to(root)
    (root / "broken").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    found, aside = walk(root.resolve(), KEY)
    assert [file.path for file in found] == ["a.png", "inside"]
    assert {item.path: item.reason for item in aside} == {
        "outside": "unsupported",
        "folder": "unsupported",
        "circle": "unsupported",
        "broken": "vanished",
        "loop": "vanished",
        "pipe": "not_an_image",
    }


def test_folders_and_files_that_may_not_be_read_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a.png", colours())
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if str(folder).endswith("closed"):
            raise PermissionError
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found, aside = walk(tmp_path, KEY)
    assert [file.path for file in found] == ["a.png"]
    assert [(item.path, item.reason) for item in aside] == [("closed", "no_permission")]
    with pytest.raises(DataError, match="cannot be read"):
        walk(tmp_path / "closed", KEY)


def test_results_reach_the_disk_while_the_scan_runs(tmp_path: Path) -> None:
    now = [0.0]
    parts = Parts(tmp_path / "m.parquet", "s", KEY, clock=lambda: now[0])
    write_png(tmp_path / "a.png", colours())
    outcome = read_file(tmp_path, Found("a.png", "stamp"), KEY)
    parts.add(outcome)
    assert not parts.folder.exists()
    now[0] = 60.0
    parts.add(outcome)
    files = pl.DataFrame({"path": ["a.png"], "stamp": ["stamp"]})
    assert len(Parts(tmp_path / "m.parquet", "s", KEY).earlier(files).rows) == 1
    assert len(Parts(tmp_path / "m.parquet", "other", KEY).earlier(files).rows) == 0


def test_numbers_that_sort_a_series_are_in_no_file_as_they_are(tmp_path: Path) -> None:
    moments = {}
    for number in range(3):
        plane = {"ImagePositionPatient": [0, 0, number], "InstanceNumber": 4470 + number}
        sides = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "AcquisitionNumber": 4480}
        write_dicom(tmp_path / "in" / f"{number}", ramp(), **plane, **sides)
        moments[f"{number}"] = [-1, 4480, 4470 + number]
    write_png(tmp_path / "in" / "9", colours())  # has none
    out = tmp_path / "m.parquet"
    parts = Parts(out, "s", KEY)
    for path in [*moments, "9"]:
        parts.add(read_file(tmp_path / "in", Found(path, path), KEY))
    parts.flush()
    (written,) = parts.folder.glob("*.rows.parquet")
    halfway = pl.read_parquet(written)["moment"]
    files = pl.DataFrame({"path": [*moments, "9"], "stamp": [*moments, "9"]})
    kept = Parts(out, "s", KEY).earlier(files).rows.sort("path")["moment"].to_list()
    assert kept == [*moments.values(), None]
    scan(tmp_path / "in", out, ScanConfig(workers=1), key=KEY)
    for column in (halfway, pl.read_parquet(out)["moment"]):
        sealed = column.drop_nulls()
        assert len(sealed) == 3
        assert len({-1, 4480, 4470, 4471, 4472}.intersection(sealed.explode())) == 0
        assert sealed.explode().n_unique() == 9  # equal numbers are not seen to be equal


@pytest.mark.slow
def test_ctrl_c_ends_the_command_and_the_next_one_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for number in range(60):
        write_dicom(root / f"{number:03d}", ramp())
    code = (
        "import signal, sys, time; from pathlib import Path\n"
        # a shell that started the tests in the background would have it ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from medssl.scanning.settings import ScanConfig; from medssl.scanning.scan import scan\n"
        "class P:\n"
        "  def expect(self, *a, **k): pass\n"
        "  def advance(self, *a, **k): print('.', flush=True), time.sleep(0.05)\n"
        "if __name__ == '__main__':\n"
        "  scan(Path(sys.argv[1]), Path(sys.argv[2]), ScanConfig(workers=2), P())\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {
        **os.environ,
        "MEDSSL_KEY_FILE": str(tmp_path / "key"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    out = tmp_path / "m.parquet"
    command = [sys.executable, str(script), str(root), str(out)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert not out.exists()
    assert Parts(out, "", KEY).folder.exists()
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert done.stdout.count(".") < 60
    assert len(read_manifest(out).rows) == 60


def test_a_mistake_of_ours_costs_its_file_and_says_where_without_quoting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "a.png", colours())

    def mistaken(path: Path) -> str:
        raise TypeError("Doe^Jane")

    monkeypatch.setattr("medssl.scanning.worker.sniff", mistaken)
    aside = read_file(tmp_path, Found("a.png", "stamp"), KEY).aside
    assert aside is not None
    assert aside.reason == "reader_bug"
    assert "TypeError at test_scan_parts.py:" in aside.detail
    assert "Doe" not in aside.detail


@pytest.mark.slow
def test_ctrl_c_while_processes_start_leaves_no_traceback(tmp_path: Path) -> None:
    root = hospital(tmp_path / "in")
    command = [sys.executable, "-m", "medssl.cli", "scan", str(root)]
    command += ["--out", str(tmp_path / "m.parquet"), "--workers", "2"]
    scanning = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(1.0)
    os.killpg(scanning.pid, signal.SIGINT)
    _, words = scanning.communicate(timeout=60)
    assert b"Traceback" not in words
    assert scanning.returncode in {130, 0, -signal.SIGINT}  # or it came after the end


@pytest.mark.slow
def test_rows_of_another_folder_are_not_reused_for_equal_names_sizes_and_times(
    tmp_path: Path,
) -> None:
    out = tmp_path / "manifest.parquet"
    contents = []
    for name, value in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "image.bmp"
        Image.fromarray(ramp(dtype="uint8", top=value)).save(file)
        os.utime(file, (1e9, 1e9))
        assert scan(tmp_path / name, out, ScanConfig(workers=1), key=KEY).reused == 0
        contents += read_manifest(out).rows["content"].to_list()
    assert contents[0] != contents[1]

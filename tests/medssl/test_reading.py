"""What leaves a reader: typed errors, no warnings of decoders, and our own mistakes as they are."""

import subprocess
import sys
from pathlib import Path

import imagecodecs
import pytest

from medssl.errors import Reason, UnreadableFileError
from medssl.sources import dicom
from medssl.sources.open import open_image
from medssl.sources.reading import reading
from tests.medssl.make import ramp, write_dicom, write_png


def fail() -> None:
    raise TypeError("damaged")


def test_what_a_decoder_raises_is_a_damaged_file() -> None:
    damaged = pytest.raises(UnreadableFileError, match="header: TypeError")
    with damaged as caught, reading(Path("a"), "header"):
        fail()
    assert caught.value.reason is Reason.CORRUPT


def test_a_mistake_of_our_own_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom, "find_dicom", lambda head: "no start")
    path = write_dicom(tmp_path / "a", ramp())
    with pytest.raises(AttributeError, match="offset"), open_image(path, "dicom"):
        pass


def test_a_mistake_of_the_caller_stays_what_it_is(tmp_path: Path) -> None:
    plain = write_png(tmp_path / "a.png", ramp(dtype="uint8", top=250))
    deep = tmp_path / "b.jpg"
    deep.write_bytes(imagecodecs.jpeg8_encode(ramp(), lossless=True, bitspersample=16))
    for path, kind in ((plain, "png"), (deep, "jpeg")):
        with pytest.raises(TypeError, match="damaged"), open_image(path, kind):
            fail()


def test_warnings_that_quote_the_file_are_silent_in_threads_too(tmp_path: Path) -> None:
    code = (
        "import sys, warnings; from pathlib import Path; from threading import Thread\n"
        "from medssl.sources.open import open_image\n"
        "def read():\n"
        "  for _ in range(20):\n"
        "    with open_image(Path(sys.argv[1]), 'dicom') as file: file.facts; file.decode(0)\n"
        "threads = [Thread(target=read) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "import pydicom\n"
        "from pydicom.dataset import Dataset\n"
        "Dataset().PatientID = 'SECRET' * 20\n"  # warns about the length, with the value
    )
    path = write_dicom(tmp_path / "a", ramp(), StudyInstanceUID="1.SECRET")
    command = [sys.executable, "-W", "always", "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""

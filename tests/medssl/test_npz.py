"""MedMNIST archives: images, labels and splits; nothing is ever unpickled."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl.errors import IngestError, Reason
from medssl.sources import npz
from medssl.sources.npz import list_members, open_npz
from medssl.sources.place import UNKNOWN, Moment, Place


def write(path: Path, **arrays: Any) -> Path:
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def refusal(path: Path) -> IngestError:
    with pytest.raises(IngestError) as caught:
        list_members(path)
    return caught.value


def test_members_have_split_count_and_labels(tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    path = write(
        tmp_path / "a.npz",
        train_images=images,
        train_labels=np.array([[2], [0], [1]], np.uint8),
        test_images=images[:1],
        test_labels=np.array([1]),
    )
    train, test = list_members(path)
    assert (train.name, train.count, train.split) == ("train_images", 3, "train")
    assert train.labels == ("2", "0", "1")
    assert (test.split, test.labels) == ("test", ("1",))


def test_several_labels_per_image_are_no_class(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.npz",
        train_images=np.zeros((3, 8, 8), np.uint8),
        train_labels=np.zeros((3, 14), np.uint8),
    )
    assert list_members(path)[0].labels is None


@pytest.mark.parametrize(("shape", "dtype"), [((3, 4, 5), "u1"), ((3, 4, 5, 3), "<u2")])
def test_images_come_back_one_by_one(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    images = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = write(tmp_path / "a.npz", images=images)
    with open_npz(path, "images") as reader:
        assert reader.facts.frames == 3
        assert np.array_equal(reader.decode(2).values, images[2])
        with pytest.raises(IngestError, match="frame 3"):
            reader.decode(3)


def test_a_changed_archive_is_read_again(tmp_path: Path) -> None:
    for value in (1, 200):
        write(tmp_path / "a.npz", images=np.full((value, 4, 4), value, np.uint8))
        with open_npz(tmp_path / "a.npz", "images") as reader:
            assert reader.decode(0).values[0, 0] == value


def test_volumes_come_back_as_slices_with_their_order(tmp_path: Path) -> None:
    voxels = np.arange(2 * 5 * 6 * 7, dtype=np.uint16).reshape(2, 5, 6, 7)
    path = write(tmp_path / "a.npz", train_images=voxels, train_labels=np.array([[3], [4]]))
    (member,) = list_members(path)
    assert member.count == 10
    assert member.labels == ("3",) * 5 + ("4",) * 5
    with open_npz(path, "train_images") as reader:
        found = reader.decode(8)
    assert np.array_equal(found.values, voxels[1, 3])
    assert found.place == Place(Moment(1, UNKNOWN, 3))


def test_arrays_that_are_neither_images_nor_grey_volumes_are_unsupported(tmp_path: Path) -> None:
    for shape in ((2, 8, 8, 8, 3), (2, 8)):
        error = refusal(write(tmp_path / "a.npz", train_images=np.zeros(shape, np.uint8)))
        assert error.reason is Reason.UNSUPPORTED


def test_an_archive_of_something_else_is_unsupported(tmp_path: Path) -> None:
    assert "train_images" in refusal(write(tmp_path / "a.npz", weights=np.zeros(3))).detail


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    trap = np.empty((2, 4, 4), object)
    trap[...] = Trap()
    write(tmp_path / "a.npz", train_images=trap)
    assert refusal(tmp_path / "a.npz").reason is Reason.UNSUPPORTED
    with pytest.raises(IngestError), open_npz(tmp_path / "a.npz", "train_images"):
        pass
    labels = np.empty((2, 1), object)
    labels[...] = Trap()
    write(tmp_path / "a.npz", train_images=np.zeros((2, 4, 4), np.uint8), train_labels=labels)
    assert list_members(tmp_path / "a.npz")[0].labels is None
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    assert refusal(tmp_path / "b.npz").reason is Reason.CORRUPT


def test_an_array_beyond_the_budget_is_refused_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.npz", train_images=np.zeros((100, 28, 28), np.uint8))
    monkeypatch.setattr(npz, "ARRAY_BUDGET", 1000)
    assert refusal(path).reason is Reason.TOO_LARGE


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", train_images=np.zeros((9, 28, 28), np.uint8))
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path).reason is Reason.CORRUPT

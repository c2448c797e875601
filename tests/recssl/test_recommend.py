"""Recommendations are the best unseen items, by the ids of the log."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recssl.dataset import Dataset
from recssl.errors import DatasetError, LogError, UnknownIdError
from recssl.recommend import recommend, similar
from recssl.run_folder import RunFolder
from recssl.settings.export import RecommendConfig
from sslcore.errors import CheckpointError, ConfigError, OutputError
from tests.recssl.logs import make_dataset
from tests.recssl.runs import GROUPS, ITEMS, grouped_dataset, make_run, with_features

CONFIG = RecommendConfig()
LAST = f"i{ITEMS - 1}"  # never trained


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return grouped_dataset(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, dataset: Dataset) -> Path:
    return make_run(tmp_path / "run", dataset)


def had(dataset: Dataset, user: int, *parts: str) -> set[int]:
    return {int(item) for part in parts for item in getattr(dataset, part)[[user]].indices}


def test_known_users_get_what_plain_loops_find(run: Path, dataset: Dataset) -> None:
    found = recommend(run, CONFIG, users=["u5", "u2"], k=7)
    assert found.columns == ["user", "rank", "item", "score"]
    stored = RunFolder(run).read_embeddings()
    for user in (5, 2):
        seen = had(dataset, user, "train", "valid", "test") | {ITEMS - 1}
        scores = {i: float(stored.users[user] @ stored.items[i]) for i in range(ITEMS)}
        best = sorted(set(scores) - seen, key=lambda item: -scores[item])[:7]
        rows = found.filter(user=f"u{user}")
        assert rows["item"].to_list() == [f"i{item}" for item in best]
        assert rows["rank"].to_list() == list(range(1, 8))
        assert rows["score"].to_list() == pytest.approx([scores[item] for item in best], abs=1e-4)
    assert found["user"].unique(maintain_order=True).to_list() == ["u5", "u2"]


def test_learnt_only_leaves_later_items_to_be_found(run: Path, dataset: Dataset) -> None:
    config = RecommendConfig(seen="learnt")
    found = recommend(run, config, users=["u4"], k=ITEMS)
    items = {int(item[1:]) for item in found["item"]}
    assert had(dataset, 4, "valid", "test") <= items
    assert not had(dataset, 4, "train") & items
    assert len(recommend(run, CONFIG, users=["u4"], k=ITEMS)) < len(found) < ITEMS


def test_a_run_on_train_and_valid_has_learnt_both(tmp_path: Path, dataset: Dataset) -> None:
    run = make_run(tmp_path / "run", dataset, data={"learn_from": "train+valid"})
    found = recommend(run, RecommendConfig(seen="learnt"), users=["u4"], k=ITEMS)
    assert not had(dataset, 4, "train", "valid") & {int(item[1:]) for item in found["item"]}


def test_integer_ids_come_back_as_integers(tmp_path: Path) -> None:
    pairs = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]
    ids = {"user_ids": [10, 20, 30], "item_ids": [7, 8, 9, 5]}
    dataset = make_dataset(tmp_path / "data", pairs, [], [], 3, 4, **ids)
    rng = np.random.default_rng(0)
    sides = tuple(rng.normal(size=(n, 2)).astype(np.float32) for n in (3, 4))
    found = recommend(make_run(tmp_path / "run", dataset, sides), CONFIG, users=["20"])
    assert found.schema["user"] == found.schema["item"] == pl.Int64
    assert set(found["item"]) == {7, 5}


@pytest.mark.parametrize("way", ["ridge", "propagation"])
def test_a_new_user_gets_more_of_the_same_kind(run: Path, tmp_path: Path, way: str) -> None:
    file = tmp_path / "history.csv"
    file.write_text("movie_id,person_id\ni1,x\ni5,x\ni2,y\ni6,y\ni10,y\n")
    config = RecommendConfig.model_validate({"fold_in": {"users": way}})
    table = pl.read_csv(file).rename({"person_id": "user id"})
    found = recommend(run, config, history=table, k=4)
    assert found["user"].unique(maintain_order=True).to_list() == ["x", "y"]
    for user, group, seen in (("x", 1, {1, 5}), ("y", 2, {2, 6, 10})):
        items = {int(item[1:]) for item in found.filter(user=user)["item"]}
        assert {item % GROUPS for item in items} == {group}
        assert not items & seen


def test_a_lone_column_is_the_history_of_one_user(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    file.write_text("what\ni3\ni7\ni7\n")
    found = recommend(run, CONFIG, history=file, k=3)
    assert found["user"].to_list() == ["new"] * 3
    assert all(int(item[1:]) % GROUPS == 3 for item in found["item"])


@pytest.mark.parametrize("ids", ["text", "integer"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_first_line_that_is_an_item_is_one(tmp_path: Path, ids: str, end: str) -> None:
    item_ids = [f"i{n}" if ids == "text" else n for n in range(ITEMS)]
    dataset = grouped_dataset(tmp_path / "data", item_ids=item_ids)
    run = make_run(tmp_path / "run", dataset)
    file = tmp_path / "history.csv"
    wanted = [str(item_ids[number]) for number in (1, 3, 7)]
    file.write_text("".join(item + end for item in wanted))
    bare = recommend(run, CONFIG, history=file, k=ITEMS)
    file.write_text("".join(item + end for item in ["item", *wanted]))
    assert bare.equals(recommend(run, CONFIG, history=file, k=ITEMS))
    assert not set(map(str, bare["item"])) & set(wanted)


def test_a_number_in_the_first_line_is_no_name_of_a_column(run: Path, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("999\ni3\n")
    with pytest.raises(UnknownIdError, match=r"1 of 2 item id.*: 999"):
        recommend(run, CONFIG, history=tmp_path / "history.csv")


HISTORY = pl.DataFrame({"user": ["x", "x", "y"], "item": ["i1", "i5", "i2"]})


NAMES = ["h.jsonl", "h.jsonl.gz", "h.tsv.gz", "h.csv.zst", "h.pq", "h.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_history_is_read_from_every_format_of_logs(run: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if ".jsonl" in name:
        data = HISTORY.write_ndjson().encode()
    else:
        data = HISTORY.write_csv(separator="\t" if ".tsv" in name else ",").encode()
    if name.endswith(".zst"):
        HISTORY.write_csv(file, compression="zstd")
    elif name.endswith(".pq"):
        HISTORY.write_parquet(file)
    else:
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    found = recommend(run, CONFIG, history=file, k=4)
    assert found.equals(recommend(run, CONFIG, history=HISTORY, k=4))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("h.xz", b"\xfd7zXZ\x00\xff\n", r"not UTF-8 text; known are CSV.*JSON lines.*Parquet"),
        ("h.parquet", b"item\ni1\n", "cannot be read as parquet.*known are CSV"),
        ("h.jsonl", b"item\ni1\n", "cannot be read as jsonl.*known are CSV"),
        ("h.csv.gz", b"item\ni1\n", "cannot be read to its end"),
        ("h.jsonl", b'{"item": ["i1", "i3"]}\n', r"'item' \(item\) is of type List"),
    ],
)
def test_a_file_that_is_no_history_says_what_is(
    run: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogError, match=words):
        recommend(run, CONFIG, history=tmp_path / name)
    with pytest.raises(LogError, match="no such file"):
        recommend(run, CONFIG, history=tmp_path / "nowhere.csv")


def test_unknown_items_of_a_history_are_refused_or_skipped(run: Path) -> None:
    history = pl.DataFrame({"item": ["i3", "x9"]})
    with pytest.raises(UnknownIdError, match="x9"):
        recommend(run, CONFIG, history=history)
    skipping = RecommendConfig(unknown_items="skip")
    assert len(recommend(run, skipping, history=history, k=3)) == 3
    with pytest.raises(LogError, match="none of its 1 item ids"):
        recommend(run, skipping, history=history.tail(1))
    with pytest.raises(UnknownIdError, match="nothing was learnt about 1 of 1 user"):
        recommend(run, CONFIG, history=pl.DataFrame({"item": [LAST]}))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "cannot be read"), ("item\n", "no interaction"), ("a,b\n1,2\n", "Columns: a, b")],
)
def test_a_history_that_says_nothing_is_refused(
    run: Path, tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(LogError, match=words):
        recommend(run, CONFIG, history=tmp_path / "history.csv")


@pytest.mark.parametrize("encoder", ["mf", "towers"])
def test_a_user_without_training_is_folded_in_from_the_rest(tmp_path: Path, encoder: str) -> None:
    plain = grouped_dataset(tmp_path / "plain")
    parts = [list(zip(*part.nonzero(), strict=True)) for part in plain.parts]
    of_one = [pair for pair in parts[0] if pair[0] == 6]
    train = [pair for pair in parts[0] if pair[0] != 6]
    dataset = make_dataset(
        tmp_path / "bare", train, parts[1], sorted({*parts[2], *of_one}), 48, ITEMS
    )
    dataset = with_features(dataset, tmp_path / "data")
    run = make_run(tmp_path / "run", dataset, encoder={"name": encoder})
    found = recommend(run, CONFIG, users=["u6"], k=3)
    history = pl.DataFrame({"item": [f"i{item}" for item in had(dataset, 6, "valid", "test")]})
    folded = recommend(run, CONFIG, history=history, k=3)
    assert found["item"].to_list() == folded["item"].to_list()
    with pytest.raises(UnknownIdError, match="nothing was learnt"):
        recommend(run, RecommendConfig(seen="learnt"), users=["u6"])


def test_untrained_items_are_ranked_only_if_asked_for(tmp_path: Path) -> None:
    dataset = with_features(grouped_dataset(tmp_path / "plain"), tmp_path / "data")
    run = make_run(tmp_path / "run", dataset)
    user = f"u{(ITEMS - 1) % GROUPS}"
    ranked = {
        way: recommend(run, RecommendConfig(untrained=way), users=[user], k=ITEMS)
        for way in ("auto", "leave_out", "keep", "features")
    }
    assert LAST not in {*ranked["auto"]["item"], *ranked["leave_out"]["item"]}
    assert LAST in ranked["keep"]["item"].to_list()
    kin = sum(int(item[1:]) % GROUPS == 3 for item in ranked["features"]["item"])
    assert LAST in ranked["features"]["item"].head(kin).to_list()


def test_similar_items_are_the_nearest_by_cosine(run: Path) -> None:
    found = similar(run, CONFIG, ["i8", "i3"], k=5)
    assert found.columns == ["item", "rank", "similar", "score"]
    items = RunFolder(run).read_embeddings().items.astype(np.float64)
    for asked in (8, 3):
        cosines = {
            other: items[asked]
            @ items[other]
            / np.sqrt((items[asked] ** 2).sum())
            / np.sqrt((items[other] ** 2).sum())
            for other in range(ITEMS - 1)
            if other != asked
        }
        best = sorted(cosines, key=lambda other: -cosines[other])[:5]
        rows = found.filter(item=f"i{asked}")
        assert rows["similar"].to_list() == [f"i{item}" for item in best]
        assert rows["score"].to_list() == pytest.approx([cosines[i] for i in best], abs=1e-5)
    with pytest.raises(UnknownIdError, match="nothing was learnt"):
        similar(run, CONFIG, [LAST])


@pytest.mark.parametrize(
    ("asked", "hint"), [("U7 ", "did you mean 'u7'"), ("user7", "look like u0, u1, u2")]
)
def test_an_unknown_user_gets_examples_and_the_nearest(run: Path, asked: str, hint: str) -> None:
    with pytest.raises(UnknownIdError, match=hint):
        recommend(run, CONFIG, users=["u1", asked])
    with pytest.raises(UnknownIdError, match="did you mean"):
        similar(run, CONFIG, ["I8"])


def test_a_run_of_another_data_set_is_refused(tmp_path: Path, dataset: Dataset) -> None:
    run = make_run(tmp_path / "run", dataset, fingerprint="another")
    with pytest.raises(DatasetError, match="was trained on the data set another"):
        recommend(run, CONFIG, users=["u1"])
    with pytest.raises(CheckpointError, match="holds no embeddings"):
        recommend(tmp_path, CONFIG, users=["u1"])


def test_a_moved_data_set_is_named_by_the_settings(run: Path, dataset: Dataset) -> None:
    moved = dataset.folder.rename(dataset.folder.with_name("elsewhere"))
    with pytest.raises(DatasetError, match="is gone; if it is elsewhere now, name it with --set"):
        recommend(run, CONFIG, users=["u1"])
    assert len(recommend(run, RecommendConfig(data=moved), users=["u1"], k=2)) == 2


def test_tables_are_written_whole_and_never_over_others(run: Path, tmp_path: Path) -> None:
    for suffix in ("parquet", "csv", "tsv"):
        out = tmp_path / f"out.{suffix}"
        found = recommend(run, CONFIG, users=["u1"], k=3, out=out)
        separator = "\t" if suffix == "tsv" else ","
        read = (
            pl.read_parquet(out) if suffix == "parquet" else pl.read_csv(out, separator=separator)
        )
        assert read["item"].to_list() == found["item"].to_list()
        with pytest.raises(OutputError, match="already exists"):
            similar(run, CONFIG, ["i1"], out=out)
    with pytest.raises(OutputError, match="known endings"):
        recommend(run, CONFIG, users=["u1"], out=tmp_path / "out.xlsx")


def test_either_users_or_a_history_is_asked_for(run: Path) -> None:
    for given in ({}, {"users": ["u1"], "history": pl.DataFrame({"item": ["i1"]})}):
        with pytest.raises(ConfigError, match="either users"):
            recommend(run, CONFIG, **given)  # type: ignore[arg-type]

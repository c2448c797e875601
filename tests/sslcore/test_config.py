from pathlib import Path
from typing import Annotated, Literal, Self

import pytest
from pydantic import Field, model_validator

from sslcore.config import Section, dump_config, resolve_config, suggest
from sslcore.errors import ConfigError


class Small(Section):
    name: Literal["small"] = "small"
    width: int = Field(8, gt=0)


class Large(Section):
    name: Literal["large"] = "large"
    depth: int = 3


class Part(Section):
    low: float = 0.0
    high: float = 1.0
    sizes: tuple[int, ...] = (1, 2)
    place: Path | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} > high {self.high}")
        return self


class Whole(Section):
    part: Part = Part()
    model: Annotated[Small | Large, Field(discriminator="name")] = Small()
    steps: int = 10
    shape: Literal["round", "square"] = "round"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_stand_without_any_input() -> None:
    assert resolve_config(Whole) == Whole()


def test_assignments_go_before_options_before_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "steps: 1\npart: {low: 0.1, high: 2}\n")
    config = resolve_config(
        Whole,
        file=file,
        options={"steps": 2, "part.low": 0.2, "part.place": None},
        assignments=["part.low=0.3", "part.sizes=[4, 5]"],
    )
    assert config.steps == 2
    assert config.part == Part(low=0.3, high=2, sizes=(4, 5))


def test_what_is_dumped_is_read_back(tmp_path: Path) -> None:
    config = Whole(part=Part(place=Path("a/b")), model=Large(depth=5))
    assert resolve_config(Whole, file=write(tmp_path, dump_config(config))) == config


def test_an_empty_file_and_an_empty_section_mean_the_defaults(tmp_path: Path) -> None:
    assert resolve_config(Whole, file=write(tmp_path, "")) == Whole()
    file = write(tmp_path, "part:\n")
    assert resolve_config(Whole, file=file, assignments=["part.low=0.5"]).part.low == 0.5


def test_a_key_of_the_default_choice_needs_no_name() -> None:
    assert resolve_config(Whole, assignments=["model.width=4"]).model == Small(width=4)


def test_a_choice_is_made_by_name() -> None:
    config = resolve_config(Whole, options={"model.name": "large"}, assignments=["model.depth=9"])
    assert config.model == Large(depth=9)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("step=3", r"step: unknown key; did you mean 'steps'\? known: model, part, shape, steps"),
        ("part.lwo=3", r"part\.lwo: unknown key; did you mean 'low'\? known: high, low"),
        ("model.widht=3", r"model\.small\.widht: unknown key; did you mean 'width'\?"),
        ("model.name=lrge", r"model: unknown 'lrge'; did you mean 'large'\? known: small, large"),
        ("model.width=0", r"model\.small\.width: .*greater than 0 \(got 0\)"),
        ("steps=many", r"steps: .*integer.*\(got 'many'\)"),
        ("part.low=7", r"part: low 7\.0 > high 1\.0$"),
        ("steps", r"--set steps: expected section\.key=value"),
        ("=3", r"expected section\.key=value"),
        ("steps=[1", r"--set steps=\[1: not YAML: expected ',' or '\]'.* in line 1, column 3$"),
        ("shape=rund", r"shape: unknown 'rund'; did you mean 'round'\? known: round, square$"),
        ("steps.more=1", r"steps: .*integer"),
    ],
)
def test_a_wrong_key_or_value_is_explained(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_config(Whole, assignments=[assignment])


def test_a_value_is_not_a_section() -> None:
    with pytest.raises(ConfigError, match="steps is a value, not a section"):
        resolve_config(Whole, assignments=["steps=1", "steps.more=1"])


def test_all_problems_are_reported_at_once_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: 2 problems\n  part\.lo: .*\n  steps: "):
        resolve_config(Whole, file=write(tmp_path, "steps: x\npart: {lo: 1}\n"))


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1\n", "just words"])
def test_a_file_that_is_no_tree_of_sections_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        resolve_config(Whole, file=write(tmp_path, text))


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory$"):
        resolve_config(Whole, file=tmp_path / "none.yaml")


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Whole().steps = 3  # type: ignore[misc]


def test_a_suggestion_without_a_near_name_only_lists() -> None:
    assert suggest("xyz", ["a", "b"]) == "known: a, b"


DERIVED = {"model.name": ("steps",), "part.low": ("part.high", "part.place")}


@pytest.mark.parametrize(
    ("text", "assignments", "expected"),
    [
        ("{model: {name: small}, steps: 7}", ["model.name=large"], Whole(model=Large())),
        ("{steps: 7}", ["model.name=large"], Whole(model=Large())),
        ("{model: {name: large}, steps: 7}", ["model.name=large"], Whole(model=Large(), steps=7)),
        ("{steps: 7}", ["steps=8", "model.name=large"], Whole(model=Large(), steps=8)),
        ("{part: {low: 0, high: 2, place: x}}", ["part.low=0.5"], Whole(part=Part(low=0.5))),
        ("{part: {low: 0, high: 2}}", ["part.low=0.5"], Whole(part=Part(low=0.5))),
    ],
)
def test_what_follows_from_a_changed_value_is_forgotten_in_the_file_of_a_run(
    tmp_path: Path, text: str, assignments: list[str], expected: Whole
) -> None:
    marker = dump_config(Whole()).splitlines()[0]
    file = write(tmp_path, f"{marker}\n{text}")
    assert resolve_config(Whole, file=file, assignments=assignments, derived=DERIVED) == expected


def test_what_somebody_wrote_stays_whatever_it_follows_from(tmp_path: Path) -> None:
    file = write(tmp_path, "{model: {name: small}, steps: 7}")
    config = resolve_config(Whole, file=file, assignments=["model.name=large"], derived=DERIVED)
    assert (config.model, config.steps) == (Large(), 7)


def test_a_setting_takes_the_place_of_its_alternative_in_any_file(tmp_path: Path) -> None:
    file = write(tmp_path, "{model: {name: small}, steps: 7}")
    other = {"model.name": ("steps",)}
    config = resolve_config(Whole, file=file, options={"model.name": "large"}, instead_of=other)
    assert config == Whole(model=Large())
    assert resolve_config(Whole, file=file, instead_of=other).steps == 7


def test_a_preset_goes_before_the_file_and_after_options(tmp_path: Path) -> None:
    file = write(tmp_path, "steps: 1\nmodel: {name: small, width: 2}\nshape: square\n")
    same = {"model": {"name": "small", "width": 5}, "steps": 3}
    config = resolve_config(Whole, file=file, preset=same, options={"steps": 4})
    assert (config.model, config.steps, config.shape) == (Small(width=2), 4, "square")
    other = resolve_config(Whole, file=file, preset={"model": {"name": "large", "depth": 5}})
    assert (other.model, other.steps) == (Large(depth=5), 1)
    alone = resolve_config(Whole, preset=same, assignments=["model.width=7"])
    assert (alone.model, alone.steps) == (Small(width=7), 3)
    assert same["model"] == {"name": "small", "width": 5}

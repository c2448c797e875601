"""Base of all configuration sections, and the one function that resolves them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sslcore.errors import ConfigError


class Section(BaseModel):
    """Immutable, and closed to unknown keys: a typing mistake is an error, not a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=Section)

_RESOLVED = "# complete: the defaults of a run are written out"


class Default(NamedTuple):
    """A number of a preset, such as a rate, that is not what its name stands for."""

    value: float


def resolve_config(
    section: type[SectionT],
    *,
    file: Path | None = None,
    options: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    derived: Mapping[str, Sequence[str]] | None = None,
    preset: Mapping[str, Any] | None = None,
    instead_of: Mapping[str, Sequence[str]] | None = None,
) -> SectionT:
    """Build `section` from its defaults, a file, a preset, options and assignments.

    Each overrides those before it.

    Args:
        section: What to build.
        file: YAML.
        options: Dotted key to value; a value of None means not given.
        assignments: `section.key=value`, the value in YAML.
        derived: Dotted key to those that follow from it. If an option or assignment changes the
            first, and the file is one that `dump_config` wrote, the others are forgotten: nobody
            chose them. What somebody wrote by hand stays.
        preset: Dotted key to value, None included. A mapping is a whole section; the file's
            settings of a section stay if it has the preset's `name`, and go if not. A `Default`
            gives way to what somebody wrote into the file by hand.
        instead_of: Dotted key to those whose place it takes: an option or assignment drops them
            from any file.

    Raises:
        ConfigError: Naming for each problem the dotted key, the reason and, for an unknown key,
            the nearest known ones.
    """
    tree, is_resolved = _read(file) if file else ({}, False)
    for key, value in (preset or {}).items():
        _prefer(tree, key, value, by_hand=not is_resolved)
    changes = [(key, value) for key, value in (options or {}).items() if value is not None]
    changes += [_parse(text) for text in assignments]
    for key, value in changes:
        _forget(tree, (instead_of or {}).get(key, ()))
        if is_resolved and value != _pick(tree, key):
            _forget(tree, (derived or {}).get(key, ()))
    for key, value in changes:
        _assign(tree, key, value)
    _name_the_default(tree, section)
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        problems = [_describe(item, section) for item in error.errors()]
        if len(problems) > 1:
            problems[:0] = [f"{len(problems)} problems"]
        source = f"{file}: " if file else ""
        raise ConfigError(source + "\n  ".join(problems)) from error


def _prefer(tree: dict[str, Any], key: str, value: Any, *, by_hand: bool) -> None:
    """Write a preset's value over that of a file, unless a `Default` gives way to it."""
    there = _pick(tree, key)
    if not isinstance(value, Default):
        _assign(tree, key, _joined(value, there))
    elif there is None or not by_hand:
        _assign(tree, key, value.value)


def dump_config(config: Section) -> str:
    """Return `config`, complete, as YAML that `resolve_config` reads back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return f"{_RESOLVED}\n{text}"


def suggest(wrong: str, known: Sequence[str]) -> str:
    """Return a half sentence that lists `known` and names the nearest to `wrong`."""
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"


def _read(file: Path) -> tuple[dict[str, Any], bool]:
    """Return what a file holds, and whether `dump_config` wrote it."""
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: not YAML: {_syntax(error)}") from error
    if not isinstance(tree, dict | None):
        raise ConfigError(f"{file}: expected sections with keys, got {type(tree).__name__}")
    return tree or {}, text.startswith(_RESOLVED)


_NO_YAML = tuple("%@`")  # begin no value there, so what begins with them is a text


def _parse(assignment: str) -> tuple[str, Any]:
    key, equals, value = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {assignment}: expected section.key=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        if value[:1] in _NO_YAML:
            return key.strip(), value
        raise ConfigError(f"--set {assignment}: not YAML: {_syntax(error)}") from error


def _syntax(error: Exception) -> str:
    """Say in one line what a parser stumbled over, and where if it knows."""
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or error}{place}"


def _pick(tree: Any, key: str) -> Any:
    """Return the value at a dotted key, None if there is none."""
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _forget(tree: dict[str, Any], keys: Sequence[str]) -> None:
    for key in keys:
        *parents, leaf = key.split(".")
        section = _pick(tree, ".".join(parents)) if parents else tree
        if isinstance(section, dict):
            section.pop(leaf, None)


def _joined(wanted: Any, held: Any) -> Any:
    """Add to a wanted section what the file sets of the same one."""
    if not isinstance(wanted, Mapping):
        return wanted
    is_same = isinstance(held, Mapping) and held.get("name") == wanted.get("name")
    return {**wanted, **held} if is_same else dict(wanted)


def _assign(tree: dict[str, Any], key: str, value: object) -> None:
    *parents, leaf = key.split(".")
    for name in parents:
        if tree.get(name) is None:
            tree[name] = {}
        tree = tree[name]
        if not isinstance(tree, dict):
            raise ConfigError(f"{key}: {name} is a value, not a section")
    tree[leaf] = value


def _name_the_default(tree: dict[str, Any], section: type[BaseModel]) -> None:
    """Let `method.temperature` alone mean the default method's temperature."""
    for key, field in section.model_fields.items():
        default_name = getattr(field.default, "name", None)
        if field.discriminator == "name" and default_name and isinstance(tree.get(key), dict):
            tree[key].setdefault("name", default_name)


def _describe(item: Any, section: type[BaseModel]) -> str:
    place = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        *parents, leaf = item["loc"]
        known = _keys_at(section, parents)
        return f"{place}: unknown key; {suggest(str(leaf), known)}"
    if item["type"] == "union_tag_invalid":
        known = [name.strip("' ") for name in item["ctx"]["expected_tags"].split(",")]
        return f"{place}: unknown {item['ctx']['tag']!r}; {suggest(item['ctx']['tag'], known)}"
    if item["type"] in ("literal_error", "enum") and isinstance(item["input"], str):
        known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
        return f"{place}: unknown {item['input']!r}; {suggest(item['input'], known)}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if isinstance(item["input"], str | int | float | list | tuple):
        message = f"{message} (got {item['input']!r})"
    return f"{place}: {message}" if place else message


def _keys_at(section: type[BaseModel], parents: Sequence[Any]) -> list[str]:
    """List the keys of the section that `parents` lead to; a tag chooses among a union."""
    choices: list[Any] = [section]
    for name in parents:
        models = [choice for choice in choices if name in choice.model_fields]
        if models:
            choices = [
                model
                for choice in models
                for model in _models_in(choice.model_fields[name].annotation)
            ]
        else:
            choices = [choice for choice in choices if _tag(choice) == name] or choices
    return sorted({name for choice in choices for name in choice.model_fields})


def _tag(section: type[BaseModel]) -> Any:
    field = section.model_fields.get("name")
    return field.default if field else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]

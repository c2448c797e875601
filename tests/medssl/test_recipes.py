from pathlib import Path

import pytest

from medssl.backbones import KNOWN
from medssl.config import Preset, PretrainConfig
from sslcore.config import dump_config, resolve_config

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "med").glob("*.yaml"))

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)


def load(recipe: Path) -> PretrainConfig:
    return resolve_config(PretrainConfig, file=recipe, options={"data.path": "folder"})


@every_recipe
def test_every_recipe_loads(recipe: Path) -> None:
    config = load(recipe)
    assert config.backbone.name in KNOWN
    assert config.data.path == Path("folder")


@every_recipe
def test_the_name_says_what_a_recipe_does(recipe: Path) -> None:
    kind, _, method = recipe.stem.partition("_")
    config = load(recipe)
    if kind in set(Preset):
        assert config.views.preset == kind
        assert config.method.name == method


@every_recipe
def test_every_recipe_begins_with_what_it_is_for_and_the_command(recipe: Path) -> None:
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert any(f"--config configs/med/{recipe.name}" in line for line in lines[:4])


@every_recipe
def test_a_resolved_recipe_can_be_written_and_read_back(recipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(load(recipe)), encoding="utf-8")
    assert resolve_config(PretrainConfig, file=file) == load(recipe)


def test_there_is_a_recipe_for_every_kind_of_image() -> None:
    assert {load(recipe).views.preset for recipe in RECIPES} >= set(Preset)

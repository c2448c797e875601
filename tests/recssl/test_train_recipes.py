from pathlib import Path

import pytest

from recssl.settings.train import TrainConfig
from sslcore.config import dump_config, resolve_config

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "rec").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_says_how_it_is_used(recipe: Path, tmp_path: Path) -> None:
    config = resolve_config(TrainConfig, file=recipe, options={"data.path": "folder"})
    _data_set, encoder, _method = recipe.stem.split("_", maxsplit=2)
    assert config.encoder.name == encoder
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert f"--config configs/rec/{recipe.name}" in lines[1]
    written = tmp_path / "config.yaml"
    written.write_text(dump_config(config), encoding="utf-8")
    assert resolve_config(TrainConfig, file=written) == config

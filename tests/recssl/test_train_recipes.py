from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from recssl.dataset import open_dataset
from recssl.run_parts import assemble
from recssl.settings.methods import METHODS
from recssl.settings.train import TrainConfig
from sslcore.config import dump_config, resolve_config
from tests.recssl.grouped_log import grouped_log
from tools.recommender_page import ABOUT

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted((CONFIGS / "rec").glob("*.yaml"))
PAPERS = sorted((CONFIGS / "papers" / "rec").glob("*.yaml"))

every_recipe = pytest.mark.parametrize("recipe", [*RECIPES, *PAPERS], ids=lambda path: path.stem)
every_paper = pytest.mark.parametrize("recipe", PAPERS, ids=lambda path: path.stem)


class Sizes(NamedTuple):
    """As the sources of the recipes give them; layers 0 for an encoder without any."""

    dim: int
    layers: int
    rate: float
    decay: float
    batch: int
    epochs: int


FROM_PAPERS = {
    "bpr": Sizes(64, 3, 1e-3, 1e-4, 2048, 1000),
    "sgl": Sizes(64, 3, 1e-3, 1e-4, 2048, 1000),
    "simgcl": Sizes(64, 2, 1e-3, 1e-4, 2048, 20),
    "xsimgcl": Sizes(64, 2, 1e-3, 1e-4, 2048, 20),
    "lightgcl": Sizes(64, 2, 1e-3, 0.0, 4096, 100),
    "ncl": Sizes(64, 3, 2e-3, 1e-4, 4096, 300),
    "buir": Sizes(250, 0, 1e-3, 1e-4, 1024, 1000),
    "selfcf": Sizes(64, 2, 1e-3, 0.0, 2048, 1000),
    "directau": Sizes(64, 0, 1e-3, 1e-6, 1024, 300),
}
# Weight of a contrast of users and items together; here their weighted mean is taken.
OF_SUMS = {"sgl": 0.1, "simgcl": 0.5, "xsimgcl": 0.2, "lightgcl": 0.2, "ncl": 4096e-6}


def load(recipe: Path, **options: object) -> TrainConfig:
    return resolve_config(TrainConfig, file=recipe, options={"data.path": "folder", **options})


@every_recipe
def test_every_recipe_loads_and_says_how_it_is_used(recipe: Path, tmp_path: Path) -> None:
    config = load(recipe)
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    place = recipe.relative_to(CONFIGS.parent).as_posix()
    assert any(f"recssl train DIR --config {place} --out RUN" in line for line in lines[1:8])
    written = tmp_path / "config.yaml"
    written.write_text(dump_config(config), encoding="utf-8")
    assert resolve_config(TrainConfig, file=written) == config


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_name_of_a_recipe_says_its_encoder(recipe: Path) -> None:
    assert load(recipe).encoder.name == recipe.stem.split("_", maxsplit=2)[1]


def test_the_recipes_of_the_papers_are_these() -> None:
    assert {recipe.stem for recipe in PAPERS} == set(FROM_PAPERS)


@every_paper
def test_the_recipe_of_a_paper_has_its_numbers_and_its_source(recipe: Path) -> None:
    config, optim, run = load(recipe), load(recipe).optim, load(recipe).run
    found = Sizes(
        config.encoder.dim,
        getattr(config.encoder, "layers", 0) + config.readout_layers,
        *(optim.learning_rate, optim.weight_decay, run.batch_size, run.epochs),
    )
    assert found == FROM_PAPERS[recipe.stem]
    text = recipe.read_text(encoding="utf-8")
    number = "2002.02126" if recipe.stem == "bpr" else ABOUT[recipe.stem].source.split(":")[-1]
    assert f"arXiv:{number}" in text
    assert "github.com/" in text


@every_paper
def test_the_recipe_of_a_paper_is_the_method_of_its_name(recipe: Path) -> None:
    apart = {"contrast_weight", "optim.learning_rate", "views.perturb"}  # written out
    for key, value in METHODS[recipe.stem].items():
        if key not in apart:
            found: object = load(recipe)
            for name in key.split("."):
                found = getattr(found, name)
            is_named = isinstance(value, dict)
            assert (getattr(found, "name", None) if is_named else found) == (
                value["name"] if is_named else value
            ), key


@every_paper
def test_the_contrast_of_a_paper_weighs_as_much_here(recipe: Path) -> None:
    config = load(recipe)
    assert (config.contrast is None) == (recipe.stem not in OF_SUMS)
    if config.contrast is not None:
        sides = 1 + getattr(config.contrast, "item_weight", 1.0)
        expected = sides * OF_SUMS[recipe.stem]
        assert config.contrast_weight == pytest.approx(expected, rel=0.01)


@every_paper
def test_the_method_of_a_paper_trains(recipe: Path, tmp_path: Path) -> None:
    data = grouped_log(tmp_path / "data").folder
    config = load(recipe, **{"data.path": data, "run.batch_size": 64, "run.steps": 40})
    made, cpu = assemble(config, open_dataset(data), torch.device("cpu")), torch.device("cpu")
    losses = []
    for step, drawn in zip(range(40), made.batches.draw(0), strict=False):
        loss = made.method(made.batches.complete(drawn, device=cpu)).loss
        made.optimizer.zero_grad()
        loss.backward()
        made.optimizer.step()
        made.method.after_step((step + 1) / 40)
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])

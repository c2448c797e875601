from pathlib import Path

import pytest
import torch

from medssl.backbones import KNOWN, build_backbone
from medssl.config import Preset, PretrainConfig
from sslcore.config import dump_config, resolve_config
from sslcore.schedules import warmup_cosine
from sslcore.training.optimizers import peak_rate

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted((CONFIGS / "med").glob("*.yaml"))
PAPERS = sorted((CONFIGS / "papers").glob("*.yaml"))

every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
every_paper = pytest.mark.parametrize("recipe", PAPERS, ids=lambda path: path.stem)

# peak learning rate, batch, and epochs or steps, as each paper gives them
FROM_PAPERS = {
    "simclr": (4.8, 4096, 1000),
    "simclr_v2": (6.4, 4096, 800),
    "moco": (0.03, 256, 200),
    "moco_v2": (0.03, 256, 800),
    "moco_v3": (2.4e-3, 4096, 300),
    "byol": (3.2, 4096, 1000),
    "simsiam": (0.1, 512, 100),
    "barlow_twins": (1.6, 2048, 1000),
    "vicreg": (1.6, 2048, 1000),
    "nnclr": (4.8, 4096, 1000),
    "swav": (4.8, 4096, 800),
    "dino": (2e-3, 1024, 100),
    "dinov2": (5.657e-3, 2048, 125_000),
    "dinov3": (4e-4, 4096, 1_200_000),
    "mae": (2.4e-3, 4096, 800),
    "simmim": (8e-4, 2048, 100),
}


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


def test_the_recipes_of_the_papers_are_these() -> None:
    assert {recipe.stem for recipe in PAPERS} == set(FROM_PAPERS)


@every_paper
def test_the_recipe_of_a_paper_has_its_numbers_and_its_source(recipe: Path) -> None:
    config = load(recipe)
    rate, batch, length = FROM_PAPERS[recipe.stem]
    assert config.method.name == recipe.stem
    assert config.run.batch_size == batch
    assert (config.run.steps or config.run.epochs) == length
    assert peak_rate(config.optim, batch_size=batch, default_rate=1.0) == pytest.approx(
        rate, rel=1e-3
    )
    if (config.backbone.name or "").startswith("vit") and config.method.pooling == "class":
        assert config.backbone.pooling == "class"
    text = recipe.read_text(encoding="utf-8")
    assert config.method.about.source.rpartition("arXiv:")[2] in text
    assert f"--config configs/papers/{recipe.name}" in text


@pytest.mark.parametrize(("name", "last"), [("barlow_twins", 1.6e-3), ("vicreg", 2e-3)])
def test_rates_that_do_not_fall_to_nothing_end_as_the_papers_say(name: str, last: float) -> None:
    config = load(CONFIGS / "papers" / f"{name}.yaml")
    peak = peak_rate(config.optim, batch_size=config.run.batch_size, default_rate=1.0)
    end = warmup_cosine(1.0, warmup=config.optim.warmup, floor=config.optim.floor)
    assert peak * end == pytest.approx(last)


@every_paper
def test_the_method_of_a_paper_can_be_built(recipe: Path) -> None:
    config = load(recipe)
    with torch.device("meta"):
        backbone = build_backbone(
            config.backbone.name or "",
            channels=3,
            image_size=config.image_size,
            stem=config.backbone.stem,
            pooling=config.backbone.pooling,
            registers=config.backbone.registers,
        )
        method = config.method.build(backbone, backbone.feature_dim)
    assert sum(parameter.numel() for parameter in method.parameters()) > 20e6

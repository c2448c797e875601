"""The registry: all that exists is listed, built as its paper says, and refused if unknown."""

import typing
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from torch import nn

from sslcore.config import Section, dump_config, resolve_config
from sslcore.errors import ConfigError
from sslcore.methods.barlow_twins import BarlowTwinsConfig
from sslcore.methods.byol import Byol, ByolConfig
from sslcore.methods.joint_embedding import JointEmbedding
from sslcore.methods.method import ViewMethod
from sslcore.methods.moco import Moco, MoCoV2Config
from sslcore.methods.registry import CONFIGS, METHODS, MethodConfig
from sslcore.methods.settings import Family, MethodSection
from sslcore.methods.simclr import SimCLRConfig
from sslcore.methods.simclr_v2 import SimCLRv2Config
from sslcore.methods.simsiam import SimSiam, SimSiamConfig
from sslcore.methods.swav import Swav, SwavConfig
from sslcore.methods.triplet import Triplet, TripletConfig
from sslcore.methods.vicreg import VICRegConfig
from sslcore.objectives.barlow_twins import BarlowTwins
from sslcore.objectives.nt_xent import NTXent
from sslcore.objectives.vicreg import VICReg


class Run(Section):
    method: MethodConfig = SimCLRConfig()


def config_of(name: str) -> MethodSection:
    config: MethodSection = TypeAdapter(MethodConfig).validate_python({"name": name})
    return config


@pytest.mark.parametrize("config", CONFIGS)
def test_every_method_says_what_it_is(config: type[MethodSection]) -> None:
    about = config.about
    assert about.family in typing.get_args(Family)
    assert "arXiv:" in about.source
    assert about.title
    assert about.needs
    assert about.choose


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_but_the_name_has_a_default_and_a_description(name: str) -> None:
    config = config_of(name)
    assert config.name == name
    for key, field in type(config).model_fields.items():
        assert key == "name" or field.description, key


@pytest.mark.parametrize("name", METHODS)
def test_every_config_survives_its_own_yaml(name: str, tmp_path: Path) -> None:
    run = Run(method=config_of(name))
    file = tmp_path / "run.yaml"
    file.write_text(dump_config(run))
    assert resolve_config(Run, file=file) == run


@pytest.mark.parametrize(
    ("config", "kind", "final_norm", "hidden_norm"),
    [
        (SimCLRConfig(), JointEmbedding, True, True),
        (SimCLRv2Config(), JointEmbedding, True, True),
        (MoCoV2Config(), Moco, False, False),
        (ByolConfig(), Byol, False, True),
        (SimSiamConfig(), SimSiam, True, True),
        (BarlowTwinsConfig(), JointEmbedding, False, True),
        (VICRegConfig(), JointEmbedding, False, True),
        (TripletConfig(), Triplet, False, True),
        (SwavConfig(), Swav, False, True),
    ],
)
def test_heads_are_those_of_the_papers(
    config: MethodSection, kind: type[ViewMethod], final_norm: bool, hidden_norm: bool
) -> None:
    method = config.build(nn.Identity(), 16)
    assert isinstance(method, kind)
    layers = list(method.student.head.children())
    assert isinstance(layers[0], nn.Linear)
    assert layers[0].in_features == 16
    assert isinstance(layers[-1], nn.BatchNorm1d) == final_norm
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in layers[:-1]) == hidden_norm


def test_settings_reach_the_method() -> None:
    def objective(config: MethodSection) -> nn.Module:
        method = config.build(nn.Identity(), 16)
        assert isinstance(method, JointEmbedding)
        return method.objective

    contrast = objective(SimCLRConfig(temperature=0.07))
    assert isinstance(contrast, NTXent)
    assert contrast.temperature == 0.07
    barlow = objective(BarlowTwinsConfig(redundancy_weight=0.5))
    assert isinstance(barlow, BarlowTwins)
    assert barlow.redundancy_weight == 0.5
    vicreg = objective(VICRegConfig(invariance=1, variance=2, covariance=3))
    assert isinstance(vicreg, VICReg)
    assert (vicreg.invariance, vicreg.variance, vicreg.covariance) == (1, 2, 3)
    moco = MoCoV2Config(queue_size=12, momentum=0.5, temperature=0.3, head_dims=(4,)).build(
        nn.Identity(), 16
    )
    assert isinstance(moco, Moco)
    assert (moco.queue.keys.shape, moco.momentum, moco.temperature) == ((12, 4), 0.5, 0.3)
    byol = ByolConfig(momentum=0.5, predictor_dim=7).build(nn.Identity(), 16)
    assert isinstance(byol, Byol)
    assert byol.momentum == 0.5
    triplet = TripletConfig(memory_size=9).build(nn.Identity(), 16)
    assert isinstance(triplet, Triplet)
    assert triplet.memory is not None
    assert triplet.memory.keys.shape == (9, 128)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_learning_rate_for_every_optimizer(name: str, optimizer: str) -> None:
    assert 1e-5 < config_of(name).default_learning_rate(optimizer) < 1


def test_unknown_optimizer_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"'adam'; did you mean 'adamw'\? known: adamw, sgd, lars"
    ):
        SimCLRConfig().default_learning_rate("adam")


def test_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"(?s)simsam.*did you mean 'simsiam'\?.*barlow_twins"):
        resolve_config(Run, options={"method.name": "simsam"})


def test_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        resolve_config(Run, options={"method.name": "simclr", "method.temprature": 0.1})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("simclr", "temperature", 0),
        ("simclr_v2", "head_dims", [64]),
        ("moco_v2", "momentum", 1),
        ("moco_v2", "queue_size", 0),
        ("byol", "head_dims", []),
        ("vicreg", "head_dims", [0]),
        ("barlow_twins", "redundancy_weight", 0),
        ("triplet", "mining", "easy"),
        ("triplet", "margin", 3),
        ("swav", "num_prototypes", 1),
        ("dino", "teacher_temperature", 0),
        ("dinov2", "centering", "mean"),
        ("dinov3", "gram_every", 0),
    ],
)
def test_impossible_settings_are_refused(name: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"method.{name}.{key}"):
        resolve_config(Run, options={"method.name": name, f"method.{key}": value})

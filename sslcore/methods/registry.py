"""All methods. A new one gets a file with its settings and its class, and a line here."""

from typing import Annotated, get_args

from pydantic import Field

from sslcore.methods.barlow_twins import BarlowTwinsConfig
from sslcore.methods.byol import ByolConfig
from sslcore.methods.dcl import DCLConfig
from sslcore.methods.dino import DinoConfig
from sslcore.methods.dinov2 import DinoV2Config
from sslcore.methods.dinov3 import DinoV3Config
from sslcore.methods.infonce import InfoNCEConfig
from sslcore.methods.jigsaw import JigsawConfig
from sslcore.methods.lejepa import LeJepaConfig
from sslcore.methods.mae import MaeConfig
from sslcore.methods.metric_learning import MetricLearningConfig
from sslcore.methods.moco import MoCoConfig, MoCoV2Config
from sslcore.methods.moco_v3 import MoCoV3Config
from sslcore.methods.nnclr import NNCLRConfig
from sslcore.methods.rotation import RotationConfig
from sslcore.methods.settings import MethodSection
from sslcore.methods.simclr import SimCLRConfig
from sslcore.methods.simclr_v2 import SimCLRv2Config
from sslcore.methods.simmim import SimmimConfig
from sslcore.methods.simsiam import SimSiamConfig
from sslcore.methods.supcon import SupConConfig
from sslcore.methods.swav import SwavConfig
from sslcore.methods.triplet import TripletConfig
from sslcore.methods.vicreg import VICRegConfig

MethodConfig = Annotated[
    SimCLRConfig
    | SimCLRv2Config
    | InfoNCEConfig
    | MoCoConfig
    | MoCoV2Config
    | MoCoV3Config
    | DCLConfig
    | SupConConfig
    | NNCLRConfig
    | ByolConfig
    | SimSiamConfig
    | BarlowTwinsConfig
    | VICRegConfig
    | LeJepaConfig
    | TripletConfig
    | MetricLearningConfig
    | SwavConfig
    | DinoConfig
    | DinoV2Config
    | DinoV3Config
    | MaeConfig
    | SimmimConfig
    | RotationConfig
    | JigsawConfig,
    Field(discriminator="name"),
]

CONFIGS: tuple[type[MethodSection], ...] = get_args(get_args(MethodConfig)[0])

METHODS: tuple[str, ...] = tuple(config.model_fields["name"].default for config in CONFIGS)

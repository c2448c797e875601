"""All methods. A new one gets a file with its settings and its class, and a line here."""

from typing import Annotated, get_args

from pydantic import Field

from sslcore.methods.barlow_twins import BarlowTwinsConfig
from sslcore.methods.byol import ByolConfig
from sslcore.methods.dino import DinoConfig
from sslcore.methods.dinov2 import DinoV2Config
from sslcore.methods.dinov3 import DinoV3Config
from sslcore.methods.jigsaw import JigsawConfig
from sslcore.methods.mae import MaeConfig
from sslcore.methods.moco import MoCoV2Config
from sslcore.methods.rotation import RotationConfig
from sslcore.methods.settings import MethodSection
from sslcore.methods.simclr import SimCLRConfig
from sslcore.methods.simmim import SimmimConfig
from sslcore.methods.simsiam import SimSiamConfig
from sslcore.methods.swav import SwavConfig
from sslcore.methods.triplet import TripletConfig
from sslcore.methods.vicreg import VICRegConfig

MethodConfig = Annotated[
    SimCLRConfig
    | MoCoV2Config
    | ByolConfig
    | SimSiamConfig
    | BarlowTwinsConfig
    | VICRegConfig
    | TripletConfig
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

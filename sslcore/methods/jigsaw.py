"""Jigsaw: tell in which order the tiles of an image were shuffled."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.images import require_square_images
from sslcore.methods.method import StepOutput, ViewMethod, average
from sslcore.methods.settings import About, MethodSection, Rates
from sslcore.modules.branch import Branch
from sslcore.modules.heads import projection_mlp
from sslcore.modules.tile_orders import choose_orders
from sslcore.modules.tokens import TokenEncoder
from sslcore.numerics import in_full_precision
from sslcore.objectives.classification import classification_loss
from sslcore.random import SampleRandom
from sslcore.views import ViewBatch

GRID = 3
_NUM_TILES = GRID * GRID
_LEAST_DEVIATION = 1e-4  # of a tile; below, it is rounding that would be blown up


class JigsawConfig(MethodSection):
    """Jigsaw: tell in which order the tiles of an image were shuffled."""

    about: ClassVar[About] = About(
        family="pretext",
        title="Jigsaw",
        source='Noroozi, Favaro, "Unsupervised learning of visual representations by solving'
        ' jigsaw puzzles", ECCV 2016, arXiv:1603.09246',
        needs="images whose parts have a place, large enough for 3 x 3 tiles; no negatives",
        choose="as a simple baseline, for images that show the same organ in the same position",
    )
    rates: ClassVar[Rates] = Rates(adamw=4e-3, sgd=0.03, lars=0.2)
    needs_squares: ClassVar[bool] = True
    projects: ClassVar[bool] = False

    name: Literal["jigsaw"] = "jigsaw"
    num_orders: int = Field(
        64, gt=1, le=2000, description="orders to tell apart; paper 1000, from 100 useful"
    )
    gap: float = Field(
        11 / 75,
        ge=0,
        lt=1,
        description="part of a tile's place that is left out, at random sides, so that edges do"
        " not continue; paper 11 of 75 px",
    )
    tile_dim: PositiveInt = Field(128, description="features of a tile; paper 512")
    hidden_dim: PositiveInt = Field(512, description="layer over all tiles; paper 4096")

    def build(self, encoder: nn.Module, feature_dim: int) -> ViewMethod:
        """See `MethodSection.build`."""
        head = nn.Sequential(nn.Linear(feature_dim, self.tile_dim), nn.ReLU())
        classifier = projection_mlp([_NUM_TILES * self.tile_dim, self.hidden_dim, self.num_orders])
        multiple = encoder.patch_size[0] if isinstance(encoder, TokenEncoder) else 1
        return Jigsaw(
            Branch(encoder, head),
            classifier,
            num_orders=self.num_orders,
            gap=self.gap,
            tile_multiple=multiple,
        )


class Jigsaw(ViewMethod):
    """Encode nine tiles of each full view one by one, join their features, and name the order.

    Source:
        Noroozi, Favaro, ECCV 2016, arXiv:1603.09246, sections 3.2 and 4. Every tile has mean 0 and
        deviation 1 in each channel and a random place within its ninth, or the edges and the light
        would give the order away. The paper's network is an AlexNet; here tiles go through the
        encoder that is trained, and a batch norm stands in the layer over all tiles.
    """

    orders: Tensor

    def __init__(
        self,
        student: Branch,
        classifier: nn.Module,
        *,
        num_orders: int = 64,
        gap: float = 11 / 75,
        tile_multiple: int = 1,
    ) -> None:
        """Choose the orders.

        Args:
            student: From a tile to its features.
            classifier: From the features of nine tiles to the scores of the orders.
            num_orders: See `choose_orders`.
            gap: Part of a ninth's side that its tile does not cover, 0 to 1.
            tile_multiple: What the side of a tile must be divisible by, px.
        """
        super().__init__()
        self.student = student
        self.classifier = classifier
        self.gap = gap
        self.tile_multiple = tile_multiple
        self.register_buffer("orders", choose_orders(num_orders, tiles=_NUM_TILES).clone())

    def forward(self, batch: ViewBatch[Any]) -> StepOutput:
        """Name the order of the full views' tiles; see `Method.forward`. Crops have no part.

        Raises:
            ShapeError: A view that is not `[batch, channels, side, side]` or too small, a batch
                without keys for what is drawn, or segments, which images do not have.
        """
        if batch.segments:
            raise ShapeError("jigsaw takes images, which have no segments")
        if batch.keys is None:
            raise ShapeError("jigsaw draws an order for each sample; expected a batch with keys")
        random = SampleRandom(batch.keys)
        return average([self._name_order(view, random) for view in batch.views[:2]])

    def _name_order(self, view: Tensor, random: SampleRandom) -> tuple[Tensor, dict[str, Tensor]]:
        tiles = cut_tiles(view, random, gap=self.gap, multiple=self.tile_multiple)
        answers = random.integers(len(self.orders))
        features = self.student(normalise_tiles(tiles.flatten(0, 1)))
        features = features.unflatten(0, tiles.shape[:2])
        rows = torch.arange(len(view), device=view.device)[:, None]
        shuffled = features[rows, self.orders[answers]]
        return classification_loss(self.classifier(shuffled.flatten(1)), answers=answers)


def cut_tiles(view: Tensor, random: SampleRandom, *, gap: float, multiple: int = 1) -> Tensor:
    """Cut a tile out of each ninth of a view, at a random place in it.

    Args:
        view: `[batch, channels, side, side]`.
        random: One stream per sample; two draws are taken from it for every tile.
        gap: Part of a ninth's side that its tile does not cover.
        multiple: What the side of a tile is divisible by.

    Returns:
        `[batch, 9, channels, tile, tile]`, row by row.

    Raises:
        ShapeError: Another shape, or too small for tiles.
    """
    require_square_images(view, method="jigsaw")
    place = view.shape[2] // GRID
    tile = round(place * (1 - gap)) // multiple * multiple
    if tile < 1:
        raise ShapeError(
            f"a view of {view.shape[2]} px leaves {place} px for each of 3 x 3 tiles, whose side"
            f" is a multiple of {multiple} px; take larger views"
        )
    offsets = (random.uniform(shape=(2, _NUM_TILES)) * (place - tile + 1)).long()
    offsets = offsets.clamp(max=place - tile).to(view.device)  # [batch, 2, 9]
    starts = place * torch.arange(GRID, device=view.device)
    down, across = torch.meshgrid(starts, starts, indexing="ij")
    steps = torch.arange(tile, device=view.device)
    rows = (down.flatten() + offsets[:, 0])[..., None, None] + steps[:, None]
    columns = (across.flatten() + offsets[:, 1])[..., None, None] + steps
    samples = torch.arange(len(view), device=view.device)[:, None, None, None]
    return view.movedim(1, -1)[samples, rows, columns].movedim(-1, 2)


@in_full_precision
def normalise_tiles(tiles: Tensor) -> Tensor:
    """Give every channel of every tile, `[count, channels, tile, tile]`, mean 0 and deviation 1.

    A channel without contrast becomes 0.
    """
    centred = tiles - tiles.mean(dim=(2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(2, 3), keepdim=True).sqrt()
    return centred / deviation.clamp(min=_LEAST_DEVIATION)

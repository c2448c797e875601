"""Rotation and jigsaw: the contract of all methods on small images, and what is theirs alone."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sslcore.errors import ShapeError
from sslcore.methods.jigsaw import Jigsaw, JigsawConfig, cut_tiles, normalise_tiles
from sslcore.methods.method import ViewMethod
from sslcore.methods.rotation import Rotation, RotationConfig, quarter_turns
from sslcore.methods.settings import MethodSection
from sslcore.modules.branch import Branch
from sslcore.modules.tile_orders import choose_orders
from sslcore.modules.tokens import TokenEncoder, Tokens
from sslcore.random import SampleRandom, derive_keys
from sslcore.views import ViewBatch

SMALL: dict[str, MethodSection] = {
    "rotation": RotationConfig(),
    "jigsaw": JigsawConfig(num_orders=6, tile_dim=16, hidden_dim=16),
}
each_method = pytest.mark.parametrize("name", list(SMALL))
SIDE = 12
Log = list[tuple[float, dict[str, float]]]


def new_encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )


def build(name: str) -> ViewMethod:
    torch.manual_seed(0)
    return SMALL[name].build(new_encoder(), 48)


def batch(step: int, count: int = 16) -> ViewBatch[Tensor]:
    """Brighter and rougher to the lower right, so that places and turns can be told."""
    generator = torch.Generator().manual_seed(step)
    ramp = torch.linspace(0, 2, SIDE)
    shape = ramp[:, None] + 0.5 * ramp[None, :] ** 2
    noise = torch.randn(2, count, 1, SIDE, SIDE, generator=generator)
    return ViewBatch(tuple(shape * (1 + 0.2 * noise)), keys=derive_keys(torch.arange(count), step))


def train(method: ViewMethod, optimizer: torch.optim.Optimizer, first: int, stop: int) -> Log:
    log: Log = []
    for step in range(first, stop):
        output = method(batch(step))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 40)
        log.append((output.loss.item(), {key: value.item() for key, value in output.logs.items()}))
    return log


def adamw(method: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(method.parameters(), lr=5e-3)


@each_method
def test_forward_changes_nothing_and_draws_only_from_the_keys(name: str) -> None:
    method, given = build(name).eval(), batch(0)
    before = copy.deepcopy(method.state_dict())
    first = method(given).loss
    torch.manual_seed(99)
    assert torch.equal(method(given).loss, first)
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@each_method
def test_training_is_deterministic_and_beats_chance_on_new_images(name: str) -> None:
    method, again = build(name), build(name)
    first, second = (train(each, adamw(each), 0, 80) for each in (method, again))
    assert first == second
    output = method.eval()(batch(1000, count=64))
    chance = 1 / (4 if name == "rotation" else 6)
    assert output.logs["accuracy"] > 2 * chance
    assert output.loss < 0.8 * -math.log(chance)


@each_method
def test_a_sample_is_treated_alike_alone_and_in_a_batch(name: str) -> None:
    method, whole = build(name).eval(), batch(0, count=6)
    assert whole.keys is not None
    parts = [
        ViewBatch(tuple(view[rows] for view in whole.views), keys=whole.keys[rows])
        for rows in (slice(0, 3), slice(3, 6))
    ]
    losses = torch.stack([method(part).loss for part in parts])
    torch.testing.assert_close(losses.mean(), method(whole).loss)


@each_method
def test_state_dict_is_enough_to_resume(name: str) -> None:
    method, other = build(name), build(name)
    opt, other_opt = adamw(method), adamw(other)
    train(method, opt, 0, 5)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    other_opt.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert train(method, opt, 5, 9) == train(other, other_opt, 5, 9)


@each_method
def test_nothing_is_stored_twice_and_all_that_is_trained_gets_a_gradient(name: str) -> None:
    method = build(name)
    pointers = [value.data_ptr() for value in method.state_dict().values()]
    assert len(pointers) == len(set(pointers))
    method(batch(0)).loss.backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


@each_method
def test_encoder_is_the_one_that_came_in(name: str) -> None:
    encoder = new_encoder()
    assert SMALL[name].build(encoder, 48).encoder is encoder


@each_method
def test_autocast_double_precision_and_equal_images(name: str) -> None:
    method, given = build(name), batch(0)
    with torch.autocast("cpu", torch.bfloat16):
        output = method(given)
    assert output.loss.dtype == torch.float32
    assert not any(value.requires_grad for value in output.logs.values())
    method.double()(replace(given, views=tuple(v.double() for v in given.views))).loss.backward()
    flat = build(name)
    flat(replace(given, views=(torch.ones(16, 1, SIDE, SIDE),) * 2)).loss.backward()
    for parameter in (*method.parameters(), *flat.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@each_method
def test_only_the_full_views_are_used(name: str) -> None:
    method, given = build(name).eval(), batch(0)
    with_crop = replace(given, views=(*given.views, torch.randn(16, 1, 6, 6)))
    assert torch.equal(method(with_crop).loss, method(given).loss)


@each_method
@pytest.mark.parametrize("view", [torch.ones(4, 8), torch.ones(4, 1, 8, 9), torch.ones(4, 1, 8)])
def test_refuses_what_is_no_square_image(name: str, view: Tensor) -> None:
    with pytest.raises(ShapeError, match=rf"{name} takes images .* got \(4, .*another method"):
        build(name)(ViewBatch((view, view), keys=torch.arange(4)))
    with pytest.raises(ShapeError, match="got str"):
        build(name)(ViewBatch(("graph", "graph"), keys=torch.arange(4)))


@each_method
def test_refuses_segments(name: str) -> None:
    with pytest.raises(ShapeError, match="segments"):
        build(name)(replace(batch(0), segments=(8, 8)))


def test_rotation_shows_every_view_in_all_four_turns() -> None:
    view = torch.arange(4.0).reshape(1, 1, 2, 2)
    turns = quarter_turns(view).flatten(1).tolist()
    assert turns == [[0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]]


def test_rotation_gives_the_mean_cross_entropy_of_all_turns() -> None:
    scores = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    views = torch.randn(2, 3, 1, 2, 2).unbind()
    method = Rotation(Branch(scores, nn.Identity()))
    expected = torch.stack(
        [
            -scores(torch.rot90(view, turn, (2, 3))).log_softmax(dim=1)[:, turn]
            for view in views
            for turn in range(4)
        ]
    )
    torch.testing.assert_close(method(ViewBatch(views)).loss, expected.mean())


def test_rotation_cannot_tell_what_was_turned_before() -> None:
    """As views of microscopy are: each image stands in every turn equally often."""
    method = build("rotation").eval()
    image = batch(0, count=1).views[0]
    assert method(ViewBatch((quarter_turns(image),))).loss >= math.log(4) - 1e-6


def test_orders_are_far_apart_and_the_same_everywhere() -> None:
    orders = choose_orders(9, tiles=3 * 3)
    assert torch.equal(orders, choose_orders(64)[:9])
    assert orders[0].tolist() == list(range(9))
    apart = (orders[:, None] != orders[None]).sum(dim=2)
    assert apart.fill_diagonal_(9).eq(9).all()  # nine orders can differ in all places
    all_of_four = choose_orders(24, tiles=4)
    assert len(torch.unique(all_of_four, dim=0)) == 24


def test_orders_are_chosen_greedily() -> None:
    orders = choose_orders(12, tiles=4)
    everything = torch.cartesian_prod(*[torch.arange(4)] * 4)
    everything = everything[[len(set(row.tolist())) == 4 for row in everything]]
    for number in range(1, 12):
        known = orders[:number]
        totals = (everything[:, None] != known[None]).sum(dim=(1, 2))
        is_new = (everything[:, None] != known[None]).any(dim=2).all(dim=1)
        assert (orders[number] != known).sum() == totals[is_new].max()


@pytest.mark.parametrize(("count", "tiles"), [(1, 4), (25, 4), (2, 10), (2, 1)])
def test_impossible_orders_are_refused(count: int, tiles: int) -> None:
    with pytest.raises(ShapeError, match=f"got ({count}|{tiles})"):
        choose_orders(count, tiles=tiles)


def test_tiles_come_from_their_own_ninth() -> None:
    places = torch.arange(9.0).reshape(3, 3).repeat_interleave(5, 0).repeat_interleave(5, 1)
    view = torch.stack([places, places + 100]).expand(4, 2, 15, 15)
    tiles = cut_tiles(view, SampleRandom(derive_keys(torch.arange(4))), gap=0.4)
    assert tiles.shape == (4, 9, 2, 3, 3)
    for number in range(9):
        assert tiles[:, number, 0].eq(number).all()
        assert tiles[:, number, 1].eq(100 + number).all()


def test_tiles_lie_at_any_place_in_their_ninth_and_whole() -> None:
    view = torch.arange(81.0).reshape(1, 1, 9, 9).expand(400, 1, 9, 9)
    tiles = cut_tiles(view, SampleRandom(derive_keys(torch.arange(400))), gap=1 / 3)
    corners = tiles[:, :, 0, 0, 0]
    assert set(corners[:, 4].tolist()) == {30.0, 31.0, 39.0, 40.0}
    assert tiles[0, 0, 0].diff(dim=0).eq(9).all()
    assert tiles[0, 0, 0].diff(dim=1).eq(1).all()
    untouched = cut_tiles(view[:1], SampleRandom(torch.zeros(1, dtype=torch.int64)), gap=0.0)
    assert untouched[0, 5, 0].tolist() == view[0, 0, 3:6, 6:].tolist()


def test_a_tile_says_nothing_of_its_light_and_contrast() -> None:
    tiles = torch.rand(5, 2, 4, 4)
    brighter = tiles * torch.rand(5, 2, 1, 1).add(0.5) + torch.randn(5, 2, 1, 1)
    even = normalise_tiles(tiles)
    torch.testing.assert_close(normalise_tiles(brighter), even, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(even.std(dim=(2, 3), correction=0), torch.ones(5, 2))
    assert normalise_tiles(torch.full((1, 1, 2, 2), 7.0)).eq(0).all()


def test_jigsaw_joins_features_in_the_drawn_order() -> None:
    given = batch(0, count=5)
    assert given.keys is not None
    seen: list[Tensor] = []
    classifier = nn.Linear(9 * 4, 6)
    classifier.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    method = Jigsaw(Branch(encoder, nn.Identity()), classifier, num_orders=6)
    loss = method(replace(given, views=given.views[:1])).loss
    random = SampleRandom(given.keys)
    tiles = cut_tiles(given.views[0], random, gap=method.gap)
    answers = random.integers(6)
    assert len(set(answers.tolist())) > 1
    for sample, answer in enumerate(answers.tolist()):
        order = method.orders[answer].tolist()
        joined = torch.cat([encoder(normalise_tiles(tiles[sample, i][None]))[0] for i in order])
        torch.testing.assert_close(seen[0][sample], joined)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(classifier(seen[0]), answers))


def test_jigsaw_needs_keys_and_room() -> None:
    method = build("jigsaw")
    with pytest.raises(ShapeError, match="batch with keys"):
        method(replace(batch(0), keys=None))
    tiny = torch.ones(4, 1, 2, 2)
    with pytest.raises(ShapeError, match="a view of 2 px leaves 0 px"):
        method(ViewBatch((tiny, tiny), keys=torch.arange(4)))


class Patches(TokenEncoder):
    """Refuses what is no whole number of 2 x 2 patches."""

    feature_dim = 4
    patch_size = (2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 2, stride=2)

    def grid(self, view: Tensor) -> tuple[int, ...]:
        assert view.shape[2] % 2 == 0
        return tuple(side // 2 for side in view.shape[2:])

    def tokens(
        self, view: Tensor, *, visible: Tensor | None = None, masked: Tensor | None = None
    ) -> Tokens:
        self.grid(view)
        patches = self.embed(view).flatten(2).transpose(1, 2)
        return Tokens(patches.mean(dim=1), patches, patches[:, :0])


def test_tiles_of_a_transformer_are_whole_patches() -> None:
    method = JigsawConfig(num_orders=3).build(Patches(), 4)
    assert method(batch(0)).loss.isfinite()  # tiles of 3 px would not fit

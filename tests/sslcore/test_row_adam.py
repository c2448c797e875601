import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sslcore.training.checkpoint import Checkpoint
from sslcore.training.clipping import clip_gradients
from sslcore.training.row_adam import RowAdam

BATCHES = ([0, 2, 2], [1, 2, 4], [4, 4, 0], [3, 0, 1])


class Table(nn.Module):
    def __init__(self, *, sparse: bool = True) -> None:
        super().__init__()
        weights = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        self.rows = nn.Embedding.from_pretrained(weights.clone(), freeze=False, sparse=sparse)
        self.head = nn.Linear(3, 2)
        nn.init.ones_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: list[int]) -> Tensor:
        value: Tensor = self.head(self.rows(torch.tensor(batch))).square().sum()
        return value


def train(table: Table, optimizer: torch.optim.Optimizer, batches: tuple[list[int], ...]) -> None:
    for batch in batches:
        optimizer.zero_grad()
        table(batch).backward()
        optimizer.step()


def test_sparse_rows_follow_torchs_sparse_adam() -> None:
    mine, theirs = Table(), Table()
    theirs.head.requires_grad_(False)
    mine.head.requires_grad_(False)
    train(mine, RowAdam([mine.rows.weight], lr=0.1), BATCHES)
    train(theirs, torch.optim.SparseAdam([theirs.rows.weight], lr=0.1), BATCHES)
    assert torch.allclose(mine.rows.weight, theirs.rows.weight, atol=1e-6)


def test_ordinary_gradients_follow_torchs_adamw() -> None:
    mine, theirs = Table(sparse=False), Table(sparse=False)
    train(mine, RowAdam(mine.parameters(), lr=0.1, weight_decay=0.1), BATCHES)
    train(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.1), BATCHES)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_rows_that_no_batch_uses_are_left_alone() -> None:
    table = Table()
    before = table.rows.weight[5].clone()
    train(table, RowAdam(table.parameters(), lr=0.1, weight_decay=0.5), BATCHES)
    assert torch.equal(table.rows.weight[5], before)


def test_a_restored_optimizer_goes_on_as_the_unbroken_one() -> None:
    whole, half = Table(), Table()
    train(whole, RowAdam(whole.parameters(), lr=0.1), BATCHES)
    first = RowAdam(half.parameters(), lr=0.1)
    train(half, first, BATCHES[:2])
    again = Table()
    second = RowAdam(again.parameters(), lr=0.1)
    Checkpoint.take(2, half, first, {}).restore(again, second)
    train(again, second, BATCHES[2:])
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_row_sparse_gradients_are_clipped_as_dense_ones_are() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    norms, gradients = [], []
    for sparse in (True, False):
        table = Table(sparse=sparse)
        model, stepper = fabric.setup(table, RowAdam(table.parameters(), lr=0.1))
        fabric.backward(model([0, 2, 2]))
        norms.append(clip_gradients(model, stepper, fabric=fabric, max_norm=0.5))
        gradient = table.rows.weight.grad
        assert gradient is not None
        gradients.append(gradient.to_dense() if sparse else gradient)
    assert torch.allclose(norms[0], norms[1])
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)

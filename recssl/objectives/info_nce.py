"""InfoNCE between two views, as an objective that `JointEmbedding` takes."""

from torch import Tensor, nn

from sslcore.objectives.info_nce import info_nce_loss


class InfoNCE(nn.Module):
    """`info_nce_loss` of the first view against the second. Holds no state."""

    def __init__(self, *, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, z_a: Tensor, z_b: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar loss, and nothing further for the log."""
        return info_nce_loss(z_a, z_b, temperature=self.temperature), {}

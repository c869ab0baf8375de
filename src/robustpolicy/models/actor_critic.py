"""Actor and critic in one network: the critic is one more output."""

from __future__ import annotations

from torch import Tensor, nn


class ActorCritic(nn.Module):
    """A classifier whose last layer also estimates the reward that its policy earns.

    Called like any classifier, so attacks and evaluation see nothing of the critic.

    Args:
        model: a network with C + 1 outputs; the last one is the value.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C)."""
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, shape (B, C), and values V(x), shape (B,)."""
        outputs = self.model(x)
        return outputs[:, :-1], outputs[:, -1]

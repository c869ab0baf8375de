"""Training on adversarial examples: Madry et al. (2018) and TRADES (Zhang et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.training.recipe import MadryAT, NoAdversary, Trades


def objective(
    model: nn.Module,
    loss_fn: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: NoAdversary | MadryAT | Trades,
    epoch: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Loss of a batch, a scalar, and the logits on which accuracy is counted, shape (B, C).

    Args:
        model: in train mode; the attack inside sees it in eval mode.
        loss_fn: the training loss; with TRADES, of the clean images.
        images: in [0, 1], shape (B, ...).
        labels: shape (B,).
        adversary: what the training adds to the loss.
        epoch: epochs that are complete: epsilon rises over the first ones.
        generator: source of the random starts, on the device of the images.
    """
    if isinstance(adversary, NoAdversary):
        logits = model(images)
        return loss_fn(logits, labels), logits
    if isinstance(adversary, MadryAT):
        logits = model(craft_madry(model, images, labels, adversary, epoch, generator))
        return loss_fn(logits, labels), logits
    clean = model(images)
    adversarial = model(craft_trades(model, images, adversary, epoch, generator))
    divergence = F.kl_div(
        adversarial.log_softmax(1), clean.softmax(1), reduction="batchmean"
    )  # KL(p(x) || p(x')), with a gradient through both
    return loss_fn(clean, labels) + adversary.beta * divergence, clean


def craft_madry(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: MadryAT,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    """The last iterate of PGD on cross-entropy, from a uniform start in the ball."""
    threat = Threat(adversary.radius(epoch))
    noise = torch.empty_like(images).uniform_(-1, 1, generator=generator)
    start = threat.project(images + threat.epsilon * noise, images)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(logits, y, reduction="none")

    return _ascend(model, images, start, labels, threat, adversary, loss)


def craft_trades(
    model: nn.Module,
    images: Tensor,
    adversary: Trades,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    """The last iterate of PGD on KL(p(x) || p(x')), from a small normal step away from x."""
    threat = Threat(adversary.radius(epoch))
    with AttackedModel(model) as attacked:
        clean = attacked.logits(images).softmax(1)
    noise = torch.empty_like(images).normal_(generator=generator)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1)

    labels = clean.argmax(1)  # not used by the loss
    return _ascend(model, images, images + 0.001 * noise, labels, threat, adversary, loss)


def _ascend(
    model: nn.Module,
    images: Tensor,
    current: Tensor,
    labels: Tensor,
    threat: Threat,
    adversary: MadryAT | Trades,
    loss: object,
) -> Tensor:
    step = adversary.step_size * threat.epsilon / adversary.epsilon
    with AttackedModel(model) as attacked:
        for _ in range(adversary.steps):
            gradient, _, _ = attacked.gradient(current, labels, loss)  # type: ignore[arg-type]
            current = threat.project(current + step * gradient.sign(), images)
    return current.detach()

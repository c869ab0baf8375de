"""Training on adversarial examples: Madry et al. (2018), TRADES (Zhang et al. 2019), MART (Wang
et al. 2020), each also with adversarial weight perturbation (Wu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.attacks.losses import cross_entropy
from robustpolicy.draws import RandomSource, normal, uniform
from robustpolicy.models import ActorCritic
from robustpolicy.training.distributed import Group
from robustpolicy.training.recipe import MadryAT, Mart, NoAdversary, Trades

Adversary = NoAdversary | MadryAT | Trades | Mart


def backward(
    model: nn.Module,
    loss_fn: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: Adversary,
    epoch: int,
    generator: RandomSource,
    *,
    precision: str = "float32",
    share: float = 1.0,
    group: Group | None = None,
) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch's objective to the parameters; returns what `objective` does.

    Where the adversary perturbs the weights too (Wu et al. 2020), the gradients are those at the
    perturbed weights, and the weights are as before.

    Args:
        model: in train mode; the attack inside sees it in eval mode.
        loss_fn: the training loss.
        images: in [0, 1], shape (B, ...).
        labels: shape (B,).
        adversary: what the training adds to the loss.
        epoch: epochs that are complete: epsilon rises over the first ones.
        generator: source of the random starts, on the device of the images.
        precision: of the objective's passes, ``"float32"`` or ``"bfloat16"``; that of the attack
            is the former.
        share: the part of the whole batch that this is; gradients are scaled by it.
        group: the processes that hold the other parts.
    """
    adversarial = craft(model, images, labels, adversary, epoch, generator)

    def compute() -> tuple[Tensor, Tensor]:
        return objective(model, loss_fn, images, labels, adversarial, adversary, precision)

    gamma = 0.0 if isinstance(adversary, NoAdversary) else adversary.weight_perturbation
    if gamma == 0:
        loss, logits = compute()
        (share * loss if share != 1 else loss).backward()  # type: ignore[no-untyped-call]
        return loss, logits
    with perturbed_weights(model, lambda: share * compute()[0], gamma, group):
        loss, logits = compute()
        (share * loss).backward()  # type: ignore[no-untyped-call]
    return loss, logits


def objective(
    model: nn.Module,
    loss_fn: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversarial: Tensor | None,
    adversary: Adversary,
    precision: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Loss of a batch, a scalar, and the logits on which accuracy is counted, shape (B, C).

    Args:
        model: in train mode.
        loss_fn: the training loss; with TRADES, of the clean images; MART has its own.
        images: in [0, 1], shape (B, ...).
        labels: shape (B,).
        adversarial: from `craft`.
        adversary: what the training adds to the loss.
        precision: of the passes, ``"float32"`` or ``"bfloat16"``; logits are float32 after either.
    """
    if adversarial is None:
        return _fit(model, loss_fn, images, labels, precision)
    if isinstance(adversary, MadryAT):
        return _fit(model, loss_fn, adversarial, labels, precision)
    if isinstance(adversary, Mart):
        clean, _ = _outputs(model, images, precision)
        fooled, _ = _outputs(model, adversarial, precision)
        return mart_loss(clean, fooled, labels, adversary.beta), clean
    assert isinstance(adversary, Trades)
    loss, clean = _fit(model, loss_fn, images, labels, precision)
    fooled, _ = _outputs(model, adversarial, precision)
    compared = clean
    if adversary.clean_forwards == 2:
        compared, _ = _outputs(model, images, precision)
    divergence = F.kl_div(
        fooled.log_softmax(1), compared.softmax(1), reduction="batchmean"
    )  # KL(p(x) || p(x')), with a gradient through both
    return loss + adversary.beta * divergence, clean


def _fit(
    model: nn.Module, loss_fn: nn.Module, inputs: Tensor, labels: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    """The training loss of inputs, and their logits; a critic's values go to the loss."""
    logits, values = _outputs(model, inputs, precision)
    if values is None:
        return loss_fn(logits, labels), logits
    return loss_fn(logits, labels, values=values), logits


def _outputs(model: nn.Module, inputs: Tensor, precision: str) -> tuple[Tensor, Tensor | None]:
    """Logits, and values where there is a critic, computed in this precision."""
    if precision == "bfloat16":
        with torch.autocast(inputs.device.type, torch.bfloat16):
            logits, values = _outputs(model, inputs, "float32")
        return logits.float(), None if values is None else values.float()
    return model.both(inputs) if isinstance(model, ActorCritic) else (model(inputs), None)


def mart_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, beta: float) -> Tensor:
    r"""MART's loss of a batch (Wang et al. 2020, Eq. 9-11), with a boosted cross-entropy.

    .. math:: -\log p_y(x') - \log(1 - \max_{k \ne y} p_k(x'))
        + \beta \, KL(p(x) \| p(x')) \, (1 - p_y(x))

    Args:
        clean: logits of the images, shape (B, C).
        adversarial: logits of the adversarial examples, shape (B, C).
        labels: shape (B,).
        beta: weight of the last term (the paper's lambda).
    """
    index = labels[:, None]
    log_p, log_q = clean.log_softmax(1), adversarial.log_softmax(1)
    rival = log_q.scatter(1, index, -torch.inf).amax(1)
    boosted = -log_q.gather(1, index)[:, 0] - torch.log1p(-rival.exp().clamp(max=1 - 1e-6))
    divergence = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    missed = 1 - log_p.gather(1, index)[:, 0].exp()
    return (boosted + beta * divergence * missed).mean()


@contextmanager
def perturbed_weights(
    model: nn.Module, loss: Callable[[], Tensor], gamma: float, group: Group | None = None
) -> Iterator[None]:
    """Within it, each weight tensor w is moved by gamma |w| along the gradient of the loss.

    Adversarial weight perturbation (Wu et al. 2020, Eq. 7-8), one step; biases and the parameters
    of normalisation layers stay. Gradients that are there already, running statistics and, at the
    end, the weights are as before.

    Args:
        model: in train mode.
        loss: what the step raises, computed with the model.
        gamma: length of the step, relative to each tensor's norm.
        group: processes whose gradients are added up.
    """
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    statistics = [(buffer, buffer.clone()) for buffer in model.buffers()]
    gradients = torch.autograd.grad(loss(), weights)
    if group is not None:
        group.add(gradients)
    with torch.no_grad():
        for buffer, before in statistics:
            buffer.copy_(before)
        kept = [weight.clone() for weight in weights]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.add_(gradient * (gamma * weight.norm() / (gradient.norm() + 1e-20)))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


def craft(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: Adversary,
    epoch: int,
    generator: RandomSource,
) -> Tensor | None:
    """Adversarial examples of a batch, as the adversary makes them; None without one."""
    if isinstance(adversary, NoAdversary):
        return None
    if isinstance(adversary, MadryAT):
        return craft_madry(model, images, labels, adversary, epoch, generator)
    if isinstance(adversary, Mart):
        return craft_mart(model, images, labels, adversary, epoch, generator)
    return craft_trades(model, images, adversary, epoch, generator)


def craft_madry(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: MadryAT,
    epoch: int,
    generator: RandomSource,
) -> Tensor:
    """The last iterate of PGD on cross-entropy, from a uniform start in the ball."""
    threat = Threat(adversary.radius(epoch))
    noise = uniform(tuple(images.shape), generator, images.device, images.dtype, -1, 1)
    start = threat.project(images + threat.epsilon * noise, images)
    return _ascend(model, images, start, labels, threat, adversary, cross_entropy)


def craft_mart(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    adversary: Mart,
    epoch: int,
    generator: RandomSource,
) -> Tensor:
    """The last iterate of PGD on cross-entropy, from a small normal step away from x."""
    threat = Threat(adversary.radius(epoch))
    start = images + 0.001 * normal(tuple(images.shape), generator, images.device)
    return _ascend(model, images, start, labels, threat, adversary, cross_entropy)


def craft_trades(
    model: nn.Module,
    images: Tensor,
    adversary: Trades,
    epoch: int,
    generator: RandomSource,
) -> Tensor:
    """The last iterate of PGD on KL(p(x) || p(x')), from a small normal step away from x."""
    threat = Threat(adversary.radius(epoch))
    with AttackedModel(model) as attacked:
        clean = attacked.logits(images).softmax(1)
    noise = normal(tuple(images.shape), generator, images.device)

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
    adversary: MadryAT | Trades | Mart,
    loss: object,
) -> Tensor:
    step = adversary.step_size * threat.epsilon / adversary.epsilon
    with AttackedModel(model) as attacked:
        attacked.count_zeros = False
        for _ in range(adversary.steps):
            gradient, _, _ = attacked.gradient(current, labels, loss)  # type: ignore[arg-type]
            current = threat.project(current + step * gradient.sign(), images)
    return current.detach()

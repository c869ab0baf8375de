"""Other models to craft examples on: a twin from training data, or one distilled from answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robustpolicy.attacks import PGD, AttackedModel, Threat
from robustpolicy.randomness import derive_seed
from robustpolicy.training.files import write_atomically

BATCH, RATE = 128, 1e-3


class Committee(nn.Module):
    """Two small networks of different shape, their log-probabilities averaged.

    Examples that fool both fool a third model more often (Liu et al. 2017).

    Args:
        shape: of one input.
        classes: to distinguish.
        threat: gives the range of the inputs, which is scaled to [-1, 1].
    """

    def __init__(self, shape: tuple[int, ...], classes: int, threat: Threat) -> None:
        super().__init__()
        self.middle = (threat.low + threat.high) / 2
        self.radius = (threat.high - threat.low) / 2
        size = int(torch.tensor(shape).prod())
        dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )
        members: list[nn.Module] = [dense]
        if len(shape) == 3 and min(shape[1:]) >= 4:
            small = tuple((length + 1) // 2 for length in shape[1:])
            small = tuple((length + 1) // 2 for length in small)
            members.append(
                nn.Sequential(
                    nn.Conv2d(shape[0], 16, 5, 2, 2),
                    nn.ReLU(),
                    nn.Conv2d(16, 32, 3, 2, 1),
                    nn.ReLU(),
                    nn.Flatten(),
                    nn.Linear(32 * small[0] * small[1], 128),
                    nn.ReLU(),
                    nn.Linear(128, classes),
                )
            )
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Mean log-probabilities, shape (B, C)."""
        x = (x - self.middle) / self.radius
        return torch.stack([member(x).log_softmax(1) for member in self.members]).mean(0)


def train_twin(
    x: Tensor,
    y: Tensor,
    classes: int,
    threat: Threat,
    steps: int,
    seed: int,
    keep: Path | None = None,
) -> nn.Module:
    """A committee trained with cross-entropy on training data.

    Args:
        x: images, float in the range or uint8 (0 to 255 then fill the range), shape (M, ...).
        y: labels, shape (M,).
        classes: to distinguish.
        threat: gives the range of the inputs.
        steps: of Adam.
        seed: of weights and batches.
        keep: file to keep the weights in and find them again.
    """

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.randint(len(x), (BATCH,), generator=generator)
        images = x[places]
        if images.dtype == torch.uint8:
            images = threat.low + images.float() / 255 * (threat.high - threat.low)
        return images, F.one_hot(y[places], classes).float()

    committee = _new(tuple(x.shape[1:]), classes, threat, seed)
    return _fit(committee, batch, steps, seed, keep)


def distil(
    model: AttackedModel,
    x: Tensor,
    threat: Threat,
    steps: int,
    seed: int,
    keep: Path | None = None,
) -> nn.Module:
    """A committee taught by the model's own answers, on the inputs and around them.

    The second half of the steps also asks about examples that fool the first half's committee
    (Papernot et al. 2017): that is where transferred examples will lie.

    Args:
        model: entered already.
        x: inputs, shape (N, ...).
        threat: norm and range.
        steps: of Adam.
        seed: of weights, noise and batches.
        keep: file to keep the weights in and find them again.
    """
    draws = torch.Generator().manual_seed(derive_seed(seed, "distil"))
    pool = [x.cpu()]
    for scale in (0.5, 1.0, 2.0, 3.0):
        signs = 2.0 * torch.randint(2, x.shape, generator=draws) - 1
        pool.append((pool[0] + scale * threat.epsilon * signs).clamp(threat.low, threat.high))
    for _ in range(2):  # mixtures of two inputs
        other = pool[0][torch.randperm(len(x), generator=draws)]
        weight = torch.rand(len(x), *[1] * (x.ndim - 1), generator=draws)
        pool.append(pool[0] * weight + other * (1 - weight))
    images = torch.cat(pool)

    def teach(asked: Tensor, keep: Path | None) -> nn.Module:
        answers = torch.cat([_answer(model, part) for part in torch.split(asked, 500)])

        def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            places = torch.randint(len(asked), (BATCH,), generator=generator)
            return asked[places], answers[places]

        committee = _new(tuple(x.shape[1:]), model.classes, threat, seed)
        return _fit(committee, batch, steps // 2, seed, keep)

    if keep is not None and keep.exists():
        return teach(images[:1], keep)  # only its weights are needed
    first = teach(images, None)
    labels = _answer(model, pool[0]).argmax(1)
    attack = PGD(10, threat.epsilon / 4, loss="margin", last=True)
    fooling = attack(first, pool[0], labels, threat, seed=seed)
    return teach(torch.cat([images, fooling]), keep)


def _answer(model: AttackedModel, x: Tensor) -> Tensor:
    """The model's class as a target, softened by its probabilities where they say more."""
    logits = model.logits(model.place(x)).cpu().float()
    hard = F.one_hot(logits.argmax(1), logits.shape[1]).float()
    soft = logits.softmax(1)
    agrees = torch.isfinite(soft).all(1, keepdim=True)
    return torch.where(agrees, 0.5 * hard + 0.5 * soft, hard)


def _new(shape: tuple[int, ...], classes: int, threat: Threat, seed: int) -> Committee:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "surrogate"))
        return Committee(shape, classes, threat)


def _fit(
    committee: Committee,
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    steps: int,
    seed: int,
    keep: Path | None,
) -> nn.Module:
    with torch.inference_mode(False), torch.enable_grad():
        if keep is not None and keep.exists():
            committee.load_state_dict(load_file(keep))
            return committee.eval()
        generator = torch.Generator().manual_seed(derive_seed(seed, "batches"))
        optimizer = torch.optim.Adam(committee.parameters(), lr=RATE)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = RATE * (1 - step / steps)
            images, targets = batch(generator)
            optimizer.zero_grad()
            F.cross_entropy(committee(images), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    committee.eval()
    if keep is not None:
        data = save({name: value.contiguous() for name, value in committee.state_dict().items()})
        write_atomically(keep, lambda to: to.write_bytes(data))  # type: ignore[arg-type]
    return committee

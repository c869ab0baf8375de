"""FAB, the fast adaptive boundary attack (Croce & Hein 2019): the nearest misclassified point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.losses import AttackLoss, runner_up, targeted_margin
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.noise import Noise, keyed_noise, official_noise
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError

# The paper's constants: greatest pull towards the original point, overshoot, and how far a
# misclassified iterate steps back towards the original point.
ALPHA_MAX, ETA, BETA = 0.1, 1.05, 0.9


@dataclass(frozen=True)
class FAB(Attack):
    """Steps to the linearised decision boundary, pulled towards the original point.

    Attributes:
        steps: steps of each restart.
        restarts: the first begins at the input, the others at random near it.
        targets: steer to this many runners-up in turn; 0 looks at every class in each step.
        early_exit: let a sample leave once a point inside the ball is misclassified. Off, the
            search for the nearest one goes on.
    """

    steps: int = 100
    restarts: int = 1
    targets: int = 0
    start: str = "keyed"
    early_exit: bool = True

    kind: ClassVar[str] = "fab"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("restarts", 1), ("targets", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"{name} is {value}; give a whole number, at least {least}")

    @property
    def name(self) -> str:
        """``fab-t`` with targets, else ``fab``."""
        return "fab-t" if self.targets else "fab"

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        nearest, found = self._nearest(model, x, y, threat, seed, indices)
        inside = found & threat.verify(x, nearest)
        return torch.where(inside.view(-1, *[1] * (x.ndim - 1)), nearest, x)

    def nearest(
        self,
        model: nn.Module | AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        indices: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Nearest misclassified points found, in or out of the ball, and whether there is one."""
        if indices is None:
            indices = torch.arange(len(x))
        with AttackedModel.of(model) as attacked:
            inputs, labels = attacked.place(x), attacked.place(y)
            attacked.check(inputs, labels)
            return self._nearest(attacked, inputs, labels, threat, seed, indices)

    def _nearest(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> tuple[Tensor, Tensor]:
        official = self.start == "official"
        noise = official_noise(threat, seed) if official else keyed_noise(threat, seed, self.name)
        logits = model.logits(x)
        best = _Best(x, model.wrong(logits, y))
        tries = self.restarts * (min(self.targets, model.classes - 1) if self.targets else 1)
        for number in range(tries):
            rank, restart = 2 + number // self.restarts, number % self.restarts
            left = (~best.inside(threat)).nonzero()[:, 0]
            if len(left) == 0:
                break
            targets = runner_up(logits[left], rank) if self.targets else None
            start = x[left]
            if restart:
                start = self._random_start(start, threat, noise, indices[left.cpu()], number)
            with model.part(number, tries):
                self._try(model, x[left], y[left], start, targets, left, best, threat)
        return best.points, best.found

    def _random_start(
        self, x: Tensor, threat: Threat, noise: Noise, indices: Tensor, number: int
    ) -> Tensor:
        moved = x + 0.5 * threat.epsilon * threat.unit(noise(x, indices, number))
        return moved.clamp(threat.low, threat.high)

    def _try(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        current: Tensor,
        targets: Tensor | None,
        places: Tensor,
        best: _Best,
        threat: Threat,
    ) -> None:
        """One restart on the samples at ``places``; what it finds goes into ``best``."""
        for step in range(self.steps):
            model.report(step / self.steps)
            normal, offset = _boundary(model, current, y, targets, threat)
            to_current = project_to_plane(current, normal, offset, threat)
            to_original = project_to_plane(x, normal, offset, threat)
            a, b = (threat.size(d).clamp(min=1e-8) for d in (to_current, to_original))
            alpha = (a / (a + b)).clamp(max=ALPHA_MAX)
            current = (current + ETA * to_current) * (1 - alpha) + (x + ETA * to_original) * alpha
            current = current.clamp(threat.low, threat.high)
            wrong = model.wrong(model.logits(current), y)
            best.update(places[wrong], current[wrong], threat)
            back = x + BETA * (current - x)
            current = torch.where(wrong.view(-1, *[1] * (x.ndim - 1)), back, current)
            if self.early_exit:
                keep = ~best.inside(threat)[places]
                if not bool(keep.all()):
                    x, y, current, places = x[keep], y[keep], current[keep], places[keep]
                    targets = None if targets is None else targets[keep]
                if len(places) == 0:
                    return


class _Best:
    """The nearest misclassified point of each sample so far."""

    def __init__(self, x: Tensor, wrong: Tensor) -> None:
        self.x = x
        self.points = x.clone()
        self.found = wrong
        self.distance = torch.where(wrong, 0.0, float("inf")).to(x.dtype)

    def update(self, places: Tensor, points: Tensor, threat: Threat) -> None:
        distance = threat.size(points - self.x[places]).flatten()
        nearer = distance < self.distance[places]
        places = places[nearer]
        self.points[places] = points[nearer]
        self.distance[places] = distance[nearer]
        self.found[places] = True

    def inside(self, threat: Threat) -> Tensor:
        """Whether a sample's nearest point lies in the ball."""
        return self.distance <= threat.epsilon


def _boundary(
    model: AttackedModel, x: Tensor, y: Tensor, targets: Tensor | None, threat: Threat
) -> tuple[Tensor, Tensor]:
    """The nearest linearised boundary, normal . x = offset: shapes that of x, and (B,)."""
    if targets is not None:

        def to_target(logits: Tensor, labels: Tensor) -> Tensor:
            return targeted_margin(logits, labels, targets)

        normal, _, value = model.gradient(x, y, to_target)
    else:
        normal, value = _nearest_class(model, x, y, threat)
    offset = (normal * x).flatten(1).sum(1) - value
    return normal, offset


def _nearest_class(
    model: AttackedModel, x: Tensor, y: Tensor, threat: Threat
) -> tuple[Tensor, Tensor]:
    """Gradient and value of z_k - z_y for the class k whose linearised boundary is nearest."""
    best_distance = torch.full((len(x),), float("inf"), dtype=x.dtype, device=x.device)
    normal, value = torch.zeros_like(x), torch.zeros_like(best_distance)
    for k in range(model.classes):
        target = torch.full_like(y, k)

        def to_class(logits: Tensor, labels: Tensor, target: Tensor = target) -> Tensor:
            return targeted_margin(logits, labels, target)

        loss: AttackLoss = to_class
        gradient, _, margin = model.gradient(x, y, loss)
        flat = gradient.flatten(1)
        # The distance to a plane is its value over the dual norm of its normal.
        dual = flat.abs().sum(1) if threat.norm == "Linf" else flat.square().sum(1).sqrt()
        distance = margin.abs() / (dual + 1e-12)
        distance[y == k] = float("inf")
        nearer = distance < best_distance
        normal = torch.where(nearer.view(-1, *[1] * (x.ndim - 1)), gradient, normal)
        value = torch.where(nearer, margin, value)
        best_distance = torch.where(nearer, distance, best_distance)
    return normal, value


def project_to_plane(x: Tensor, normal: Tensor, offset: Tensor, threat: Threat) -> Tensor:
    """Least step d, in the threat's norm, with normal . (x + d) = offset and x + d in the range.

    Where the plane does not cut the range, the step goes as far towards it as the range allows.
    Every coordinate moves by min(t v_i, room_i) towards the plane, with v_i = 1 for Linf and
    |w_i| for L2: what is gained is piecewise linear in t, so t comes from sorted breakpoints.

    Args:
        x: points, shape (B, ...).
        normal: w, the shape of ``x``.
        offset: shape (B,).
        threat: norm and range.
    """
    shape, x, w = x.shape, x.flatten(1), normal.flatten(1)
    gap = (w * x).sum(1) - offset
    direction = -torch.sign(w) * torch.where(gap >= 0, 1.0, -1.0).to(x)[:, None]
    room = torch.where(direction > 0, threat.high - x, x - threat.low)
    room = torch.where(direction == 0, 0.0, room)
    size = w.abs()
    speed = torch.ones_like(size) if threat.norm == "Linf" else size
    breaks, order = (room / speed.clamp(min=1e-12)).sort(dim=1)
    full = (size * room).gather(1, order).cumsum(1)  # gained by coordinates that hit the range
    slope = (size * speed).gather(1, order)
    moving = slope.flip(1).cumsum(1).flip(1)  # slope of those that have not, this one included
    gained = full + breaks * (moving - slope)
    place = torch.searchsorted(gained, gap.abs()[:, None])
    last = place.clamp(max=x.shape[1] - 1)
    before = torch.where(last > 0, full.gather(1, (last - 1).clamp(min=0)), 0.0)
    t = (gap.abs()[:, None] - before) / moving.gather(1, last).clamp(min=1e-12)
    beyond = place == x.shape[1]  # the plane lies outside the range
    step = torch.where(beyond, room, torch.minimum(t.clamp(min=0) * speed, room))
    return (direction * step).view(shape)

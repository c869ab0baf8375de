"""Square attack (Andriushchenko et al. 2020): random search with square windows, no gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robustpolicy.attacks.attack import Attack, on_survivors
from robustpolicy.attacks.losses import margin
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.noise import keyed
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed

# The window's share of the image is halved after these queries, of 10,000.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square(Attack):
    """Random search: a window of each image is set to +-eps (Linf), or takes over mass (L2).

    Windows and signs are drawn once an iteration for all samples, from a stream of (seed,
    restart) alone, and the first perturbation by sample: leaving and batches change nothing.

    Attributes:
        queries: model queries a sample and restart.
        restarts: independent searches.
        share: first share of the image that a window covers.
    """

    queries: int = 5000
    restarts: int = 1
    share: float = 0.8

    kind: ClassVar[str] = "square"
    name: ClassVar[str] = "square"

    def __post_init__(self) -> None:
        for name in ("queries", "restarts"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"{name} is {value}; give a whole number, at least 1")
        if not 0 < self.share <= 1:
            raise UserError(f"share is {self.share:g}; give a share in (0, 1]")

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        if x.ndim != 4:
            raise UserError(f"inputs have shape {tuple(x.shape)}; Square needs images (B, C, H, W)")

        def search(restart: int, left: Tensor) -> Tensor:
            keys = indices[left.cpu()]
            return self._search(model, x[left], y[left], threat, keys, seed, restart)

        tries = [partial(search, restart) for restart in range(self.restarts)]
        return on_survivors(model, x, y, tries)

    def _search(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        indices: Tensor,
        seed: int,
        restart: int,
    ) -> Tensor:
        """One restart: the best points."""
        key = derive_seed(seed, self.name, restart)
        draws = torch.Generator().manual_seed(key)
        linf = threat.norm == "Linf"
        best = _stripes(x, threat, indices, key) if linf else _tiles(x, threat, indices, key, draws)
        result = best.clone()
        places = torch.arange(len(x), device=x.device)
        logits = model.logits(best)
        loss, wrong = margin(logits, y), model.wrong(logits, y)
        for query in range(self.queries):
            # Keep the state of those that are not fooled; the others leave with their point.
            result[places[wrong]] = best[wrong]
            if bool(wrong.any()):
                keep = ~wrong
                places, x, y, best, loss = places[keep], x[keep], y[keep], best[keep], loss[keep]
            if len(places) == 0 or query == self.queries - 1:
                break
            side = self._side(query, x.shape[2:], least=1 if linf else 3)
            if linf:
                tried = _linf_window(best, x, threat, side, draws)
            else:
                tried = _l2_windows(best, x, threat, side, draws, indices[places.cpu()], key, query)
            logits = model.logits(tried)
            new, wrong = margin(logits, y), model.wrong(logits, y)
            better = (new > loss) | wrong
            loss = torch.where(better, new, loss)
            best = torch.where(better[:, None, None, None], tried, best)
            model.report(query / self.queries)
        result[places] = best
        return result

    def _side(self, query: int, size: torch.Size, least: int) -> int:
        """Side of the window at a query."""
        share = self.share / 2 ** sum(query > halving for halving in HALVINGS)
        side = max(round(math.sqrt(share * size[0] * size[1])), least)
        if least == 3 and side % 2 == 0:
            side += 1
        return min(side, *size)


def _whole(draws: torch.Generator, bound: int) -> int:
    """A whole number in [0, bound), 0 if that is empty."""
    return int(torch.randint(max(bound, 1), (), generator=draws))


def _stripes(x: Tensor, threat: Threat, indices: Tensor, key: int) -> Tensor:
    """Vertical stripes of +-eps, each sample its own."""
    columns = x[:, :, :1, :]
    signs = keyed(columns, indices, key, "stripes").sign()
    return (x + threat.epsilon * signs).clamp(threat.low, threat.high)


def _linf_window(
    best: Tensor, x: Tensor, threat: Threat, side: int, draws: torch.Generator
) -> Tensor:
    """Move one window of every channel by +-2 eps: after the projection, to +-eps."""
    channels, height, width = x.shape[1:]
    top, left = _whole(draws, height - side), _whole(draws, width - side)
    signs = 2.0 * torch.randint(2, (channels, 1, 1), generator=draws) - 1
    tried = best.clone()
    window = tried[:, :, top : top + side, left : left + side]
    window += 2 * threat.epsilon * signs.to(x)
    return threat.project(tried, x)


def _bump(side: int, draws: torch.Generator) -> Tensor:
    """The paper's L2 pattern: two opposite pyramids of rings side by side, of norm 1."""

    def pyramid(height: int, width: int) -> Tensor:
        rings = torch.zeros(height, width)
        top, left = height // 2, width // 2
        for ring in range(max(height // 2, width // 2) + 1):
            rows = slice(max(top - ring, 0), min(top + ring + 1, height))
            columns = slice(max(left - ring, 0), min(left + ring + 1, width))
            rings[rows, columns] += 1 / (ring + 1) ** 2
        return rings / rings.norm()

    half = side // 2
    bump = torch.cat([pyramid(half, side), -pyramid(side - half, side)])
    bump /= bump.norm()
    return bump.T if bool(torch.rand((), generator=draws) > 0.5) else bump


def _signs(x: Tensor, indices: Tensor, *key: object) -> Tensor:
    """Signs of each sample and channel, shape (B, C, 1, 1)."""
    return keyed(x[:, :, :1, :1], indices, *key).sign()


def _tiles(x: Tensor, threat: Threat, indices: Tensor, key: int, draws: torch.Generator) -> Tensor:
    """A grid of L2 patterns scaled to norm eps."""
    height, width = x.shape[2:]
    side = max(height // 5, 2)
    delta = torch.zeros_like(x)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            signs = _signs(x, indices, key, "tiles", top, left)
            delta[:, :, top : top + side, left : left + side] += _bump(side, draws).to(x) * signs
    return (x + threat.epsilon * threat.unit(delta)).clamp(threat.low, threat.high)


def _l2_windows(
    best: Tensor,
    x: Tensor,
    threat: Threat,
    side: int,
    draws: torch.Generator,
    indices: Tensor,
    key: int,
    query: int,
) -> Tensor:
    """Take the perturbation of one window away and put a new pattern into another."""
    channels, height, width = x.shape[1:]
    corners = [_whole(draws, size - side) for size in (height, width, height, width)]
    into = (..., slice(corners[0], corners[0] + side), slice(corners[1], corners[1] + side))
    out_of = (..., slice(corners[2], corners[2] + side), slice(corners[3], corners[3] + side))
    delta = best - x
    both = torch.zeros_like(delta[:1])
    both[into] = both[out_of] = 1
    freed = (delta * both).square().sum((2, 3), keepdim=True)  # of each channel
    unused = (threat.epsilon**2 - threat.size(delta).square()).clamp(min=0) / channels
    old = delta[into]
    old = old / (old.square().sum((2, 3), keepdim=True).sqrt() + 1e-12)
    new = old + _bump(side, draws).to(x) * _signs(x, indices, key, "window", query)
    new = new / (new.square().sum((2, 3), keepdim=True).sqrt() + 1e-12)
    delta[out_of] = 0
    delta[into] = new * (unused + freed).sqrt()
    return (x + threat.epsilon * threat.unit(delta)).clamp(threat.low, threat.high)

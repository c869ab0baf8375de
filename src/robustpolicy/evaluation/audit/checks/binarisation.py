"""The binarisation test (Zimmermann et al. 2022): a problem in which success is possible.

For each sample, a new linear readout of the model's features tells apart points around it from one
point at the ball's rim: that point is an adversarial example by construction. An attack that
cannot find one there says nothing where it fails on the model itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustpolicy.attacks import NoGradientError
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import Outcome, bars
from robustpolicy.evaluation.audit.thresholds import BINARISED_SUCCESS

#: Points inside the ball that the readout must keep apart from the one on its rim.
INNER = 99
RULE = f"PGD-40 finds at least {100 * BINARISED_SUCCESS:.0f} % of the planted examples"


class Binarised(nn.Module):
    """Two logits from a readout of each sample's own; the batch must keep its order.

    Args:
        features: inputs to features, shape (B, D).
        weight: readouts, shape (B, D).
        bias: shape (B,).
    """

    def __init__(self, features: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.features, self.weight, self.bias = features, weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Logits of "inner" and "planted", shape (B, 2)."""
        size = len(x)
        score = (self.features(x) * self.weight[:size]).sum(1) + self.bias[:size]
        return torch.stack([-score, score], 1)


class Features(nn.Module):
    """What goes into a model's last linear layer; its outputs if it has none.

    Args:
        model: not changed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self.last = linear[-1] if linear else None

    def forward(self, x: Tensor) -> Tensor:
        """Features, shape (B, D)."""
        taken: list[Tensor] = []
        if self.last is None:
            return self.model(x).flatten(1)
        hook = self.last.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            out = self.model(x)
        finally:
            hook.remove()
        found = taken[-1] if taken else out
        return found.flatten(1) if len(found) == len(x) else out.flatten(1)


def run(case: Case) -> Outcome:
    """Plant an example for each sample and let PGD-40 look for it."""
    places = case.few(torch.ones_like(case.clean), case.budget.binarised)
    x, _ = case.batch(places)
    features = Features(case.model.module)
    weight, bias, fine = _readouts(case, features, x)
    if int(fine.sum()) < 10:
        return Outcome(
            None, {"problems": int(fine.sum())}, RULE,
            "not run: the features do not tell the planted points apart",
        )  # fmt: skip
    x, weight, bias = x[fine], weight[fine], bias[fine]
    problem = Binarised(features, weight, bias)
    inner = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    # None may leave: the readouts belong to places in the batch.
    attack = case.pgd(early_exit=False)
    try:
        x_adv = attack(problem, x, inner, case.threat, seed=case.judge.seed)
    except NoGradientError as error:
        return Outcome(False, {"success": 0.0}, RULE, f"PGD could not run: {error}")
    with torch.no_grad():
        success = float((problem(x_adv).argmax(1) == 1).double().mean())
        draws = torch.Generator().manual_seed(case.judge.seed + 1)
        chance = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(case.pgd().steps):
            chance |= problem(_around(case, x, draws, rim=True)).argmax(1) == 1
    passed = success >= BINARISED_SUCCESS
    by_chance = float(chance.double().mean())
    return Outcome(
        passed,
        {"success": success, "success_of_random_points": by_chance, "problems": len(x)},
        RULE,
        "the attack finds what is there" if passed else
        "the attack misses examples that are there by construction",
        (bars("Success on planted examples", "share of problems",
              {"PGD-40": success, "as many random points": by_chance}),),
    )  # fmt: skip


def _around(case: Case, x: Tensor, draws: torch.Generator, *, rim: bool) -> Tensor:
    """A random point for each sample: at the rim of the ball, or in its inner part."""
    threat = case.threat
    noise = torch.randn(x.shape, generator=draws).to(x)
    if rim:
        step = threat.steepest(noise)
    elif threat.norm == "Linf":
        step = 0.9 * (2 * torch.rand(x.shape, generator=draws) - 1).to(x)
    else:
        step = 0.9 * threat.unit(noise)
    return threat.project(x + threat.epsilon * step, x)


def _readouts(case: Case, features: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, biases, and whether a readout separates its points; ridge regression in the dual.

    Shapes (B, D), (B,), (B,). A ridge needs one small linear system a sample.
    """
    draws = torch.Generator().manual_seed(case.judge.seed)
    with torch.no_grad():
        inner = [features(x)]
        inner += [features(_around(case, x, draws, rim=False)) for _ in range(INNER - 1)]
        planted = features(_around(case, x, draws, rim=True))
    points = torch.stack([*inner, planted], 1).double()  # (B, INNER + 1, D)
    centre = points.mean(1, keepdim=True)
    scale = points.std((1, 2), keepdim=True).clamp(min=1e-12)
    flat = (points - centre) / scale
    target = torch.full(points.shape[:2], -1.0, dtype=torch.float64, device=x.device)
    target[:, -1] = 1.0
    kernel = flat @ flat.transpose(1, 2)
    ridge = 1e-3 * torch.eye(kernel.shape[1], dtype=torch.float64, device=x.device)
    dual = torch.linalg.solve(kernel + ridge, target)
    weight = (flat * dual[..., None]).sum(1)  # (B, D)
    score = (flat * weight[:, None]).sum(2)
    highest, wanted = score[:, :-1].amax(1), score[:, -1]
    fine = torch.isfinite(wanted) & (wanted > highest + 1e-6)
    # Between the points, nearer to the planted one: not every way out of the ball's middle will do.
    middle = highest + 0.9 * (wanted - highest)
    gain = 10 / (wanted - highest).clamp(min=1e-6)  # logits of the size that classifiers have
    weight = weight / scale[:, 0] * gain[:, None]
    bias = -middle * gain - (weight * centre[:, 0]).sum(1)
    return weight.to(x.dtype), bias.to(x.dtype), fine

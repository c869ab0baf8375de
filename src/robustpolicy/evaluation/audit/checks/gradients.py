"""Gradients must be there: not zero, not lost to float32, and slopes of the actual function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robustpolicy.attacks import AttackedModel, NoGradientError
from robustpolicy.attacks.losses import AttackLoss, cross_entropy, margin
from robustpolicy.evaluation.audit.adaptive import InDouble, in_double
from robustpolicy.evaluation.audit.case import Case, beside
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.thresholds import (
    DERIVATIVE_TOLERANCE,
    GRADIENT_SHARE,
    MARGIN,
    SLOPE_SHARE,
)


def run(case: Case) -> Outcome:
    """Count zero gradients in float32 and float64, compare slopes, attack in float64."""
    places = case.few(case.clean, 10**9)
    double = in_double(case.model.module, case.batch(places[:2])[0]) if len(places) else None
    case.notes["double"] = double
    measured: dict[str, Any] = {
        "nonzero_float32": nonzero(case, case.model, places, cross_entropy, torch.float32)
    }
    said = []
    if double is None:
        alive = measured["nonzero_float32"]
        said.append("the model cannot be computed in float64, so float32 decides")
    else:
        with AttackedModel(double) as wide:
            alive = nonzero(case, wide, places, cross_entropy, torch.float64)
            measured["nonzero_float64"] = alive
            measured["nonzero_float64_margin"] = nonzero(case, wide, places, margin, torch.float64)
            measured["slopes_that_agree"] = _slopes(case, wide, places)
        before = case.standing(WHITE)
        attack = case.pgd(loss="margin")
        case.attack("pgd-float64", InDouble(attack, double), "white-box", before)
        measured["gain_of_float64"] = case.gain("pgd-float64", before)
    enough = alive >= GRADIENT_SHARE
    if not enough:
        said.append(
            f"only {100 * alive:.1f} % of the samples have a gradient of cross-entropy to follow"
        )
    elif measured["nonzero_float32"] < GRADIENT_SHARE:
        said.append("float32 loses gradients that float64 shows")
    agree = measured.get("slopes_that_agree")
    case.notes["slopes_agree"] = agree is None or agree >= SLOPE_SHARE
    # A gradient that is not the slope of the function leads nowhere, however large.
    trusted = 1.0 if case.notes["slopes_agree"] else 0.0
    case.notes["gradients"] = trusted * alive
    case.notes["margin_gradients"] = trusted * measured.get("nonzero_float64_margin", 0.0)
    if not case.notes["slopes_agree"]:
        said.append("the gradients are not the slopes of the function")
    gained = measured.get("gain_of_float64", 0.0) > MARGIN
    passed = enough and not gained and case.notes["slopes_agree"]
    shares = {k: v for k, v in measured.items() if v is not None and k != "gain_of_float64"}
    return Outcome(
        passed,
        measured,
        f"at least {100 * GRADIENT_SHARE:.0f} % of the samples have a non-zero gradient in "
        f"float64; {100 * SLOPE_SHARE:.0f} % of slopes agree with finite differences; float64 "
        f"gains at most {100 * MARGIN:.0f} points",
        "; ".join(said) or "there are gradients, and they are the slopes of the function",
        (bars("Samples with usable gradients", "share of correct samples", shares),),
    )


def nonzero(
    case: Case, model: AttackedModel, places: Tensor, loss: AttackLoss, dtype: torch.dtype
) -> float:
    """Share of these samples with a gradient that is not zero throughout."""
    alive = 0
    for part in torch.split(places, case.judge.batch_size):
        x, y = case.batch(part)
        try:
            gradient, _, _ = model.gradient(x.to(dtype), y, loss)
        except NoGradientError:
            return 0.0
        size = gradient.flatten(1).abs().amax(1)
        alive += int(((size > 0) & torch.isfinite(size)).sum())
    return alive / len(places) if len(places) else 1.0


def _slopes(case: Case, double: AttackedModel, places: Tensor) -> float | None:
    """Share of samples whose slope along a random direction is what the gradient says.

    A model of steps is flat almost everywhere, and its zero gradient is right: it agrees.
    """
    x, y = case.batch(places[: case.budget.few])
    x = x.double()
    draws = torch.Generator().manual_seed(case.judge.seed)
    # Beside the input: on it, equal pixels under a max-pooling are a kink, with two slopes.
    step = 1e-6 * (case.threat.high - case.threat.low)
    x = beside(case.threat, x, 1.0, draws).clamp(case.threat.low + step, case.threat.high - step)
    direction = (2.0 * torch.randint(2, x.shape, generator=draws) - 1).to(x)
    try:
        gradient, _, _ = double.gradient(x, y, margin)
    except NoGradientError:
        return None
    slope = (gradient * direction).flatten(1).sum(1)
    with torch.no_grad():
        above = margin(double.module(x + step * direction), y)
        below = margin(double.module(x - step * direction), y)
    measured = (above - below) / (2 * step)
    scale = torch.maximum(slope.abs(), measured.abs())
    close = (slope - measured).abs() <= DERIVATIVE_TOLERANCE * scale + 1e-6
    return float(close.double().mean())

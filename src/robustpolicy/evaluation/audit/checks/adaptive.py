"""Attacks that adapt to what the other checks found."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from robustpolicy.attacks import PGD, AttackedModel, NoGradientError, Square, Transfer
from robustpolicy.attacks.losses import margin
from robustpolicy.errors import UserError
from robustpolicy.evaluation.audit.case import Case, beside, share
from robustpolicy.evaluation.audit.checks.gradients import nonzero
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.stand_in import StandIn
from robustpolicy.evaluation.audit.thresholds import (
    GAIN,
    GRADIENT_SHARE,
    SLOPE_SHARE,
    UNBOUNDED_SUCCESS,
)

RULE = "run where a check failed; what it finds counts, and it may restore gradients"
#: Samples on which a stand-in looks for where gradients end.
PROBES = 32
#: Queries of Square where no gradient can be used.
QUERIES = 5000


def run(case: Case) -> Outcome:
    """Stand-ins whose backward pass goes through what stops gradients, with several losses.

    Where none of them restores gradients, Square tries longer.
    """
    places = case.few(case.clean, case.n)
    if len(places) == 0:
        return Outcome(None, {}, RULE, "not run: no sample is classified correctly")
    start = case.standing(WHITE)
    gains: dict[str, float] = {}
    restored, made = 0.0, 0
    for where in ("inside", "end"):
        stand_in = _stand_in(case, places, inside=where == "inside")
        if stand_in is None:
            continue
        made += 1
        for loss in ("margin", "ce", "rescaled-ce"):
            left = case.standing(WHITE)
            name = f"stand-in-{where}-{loss}"
            attack = case.pgd(loss=loss, restarts=case.budget.restarts if loss == "margin" else 1)
            case.attack(name, Transfer((stand_in,), attack, ("stand-in",)), "adaptive", left)
            gains[f"{where}, {loss}"] = case.gain(name, left)
        restored = max(restored, _restored(case, stand_in, places))
    case.notes["restored"] = restored
    best = max(case.notes.get("gradients", 0.0), case.notes.get("margin_gradients", 0.0), restored)
    if best < GRADIENT_SHARE and case.judge.x.ndim == 4:
        left = case.standing()
        case.attack("square-long", Square(queries=QUERIES), "black-box", left)
        gains["long Square"] = case.gain("square-long", left)
    total = share(start) - share(case.standing(WHITE))
    said = f"stand-ins for what stops the gradient gain {100 * total:.1f} points"
    if not made:
        said = "no stand-in could be made of this model"
    elif restored >= GRADIENT_SHARE > case.notes.get("gradients", 0.0):
        said += " and have gradients where the model has none of use"
    return Outcome(
        total <= GAIN,
        {
            "gain": total,
            "robust_accuracy": share(case.standing(WHITE)),
            "gradients_restored": restored,
        },
        RULE,
        said,
        (bars("Gain on the attacks before", "share of samples", gains),),
    )


def _stand_in(case: Case, places: Tensor, *, inside: bool) -> StandIn | None:
    """A stand-in that runs; one without `Smooth` if need be; None if neither does."""
    x, y = case.batch(places[:PROBES])
    draws = torch.Generator().manual_seed(case.judge.seed)
    x, y = torch.cat([x, beside(case.threat, x, 1.0, draws)]), torch.cat([y, y])
    wrong = case.notes.get("slopes_agree") is False
    for smooth in (True, False):
        try:
            found = StandIn(case.model.module, x, y, distrust=wrong, inside=inside, smooth=smooth)
            with AttackedModel(found) as attacked:
                attacked.check(x[:2], y[:2])
                attacked.gradient(x, y, margin)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # the user's code can raise anything
            continue
        return found
    return None


def _restored(case: Case, stand_in: StandIn, places: Tensor) -> float:
    """Share of samples with a gradient of the stand-in, 0 where it leads nowhere.

    It leads somewhere if a step along it raises what it is the gradient of, and if without a bound
    it takes every sample to another class of the model itself.
    """
    few = places[: case.budget.few]
    x, y = case.batch(few)
    with AttackedModel(stand_in) as attacked:
        alive = nonzero(case, attacked, places, margin, torch.float32)
        try:
            gradient, _, before = attacked.gradient(x, y, margin)
        except NoGradientError:
            return 0.0
        step = 0.25 * case.threat.epsilon * case.threat.steepest(gradient)
        after = margin(attacked.logits(case.threat.project(x + step, x)), y)
    rises = float((after > before).double().mean())
    threat = case.threat
    size = 1 if threat.norm == "Linf" else x[0].numel() ** 0.5
    width = (threat.high - threat.low) * size
    free = dataclasses.replace(threat, epsilon=width)
    long = PGD(100, 0.025 * width, random_start=False, loss="margin")
    flags = torch.zeros_like(case.clean)
    flags[few] = True
    try:
        attempt = case.attack("free", Transfer((stand_in,), long), "adaptive", flags, free)
    except UserError:
        return 0.0
    reached = share(attempt.fooled[few])
    case.notes["unbounded"] = case.notes.get("unbounded", False) or reached >= UNBOUNDED_SUCCESS
    return alive if rises >= SLOPE_SHARE and reached >= UNBOUNDED_SUCCESS else 0.0


def needed(outcomes: dict[str, Outcome]) -> bool:
    """Whether a check failed, any of them: an adaptive attack costs little beside a wrong word."""
    return any(outcome.passed is False for outcome in outcomes.values())


def skipped() -> Outcome:
    """What is said where no check asked for it."""
    return Outcome(None, {}, RULE, "not run: no check asked for it")

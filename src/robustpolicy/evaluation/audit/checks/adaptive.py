"""Attacks that adapt to what the other checks found."""

from __future__ import annotations

import torch

from robustpolicy.attacks import AttackedModel, Transfer
from robustpolicy.attacks.losses import margin
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.checks.gradients import nonzero
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.stand_in import StandIn
from robustpolicy.evaluation.audit.thresholds import GAIN, GRADIENT_SHARE

RULE = "run where a check failed; what it finds counts, and it may restore gradients"


def run(case: Case) -> Outcome:
    """A stand-in whose backward pass goes through what stops gradients, with several losses."""
    places = case.few(case.clean, 10**9)
    if len(places) == 0:
        return Outcome(None, {}, RULE, "not run: no sample is classified correctly")
    alive = case.notes.get("margin_gradients", 0.0)
    measured = {"gradients_before": alive}
    gains: dict[str, float] = {}
    try:
        wrong = case.notes.get("slopes_agree") is False
        stand_in = StandIn(case.model.module, *case.batch(places[:32]), distrust=wrong)
        with AttackedModel(stand_in) as attacked:
            attacked.check(*case.batch(places[:2]))
            restored = nonzero(case, attacked, places, margin, torch.float32)
    except Exception as error:  # the user's code can raise anything
        said = " ".join(str(error).split())[:100]
        return Outcome(None, measured, RULE, f"not run: no stand-in could be made ({said})")
    case.notes["stand_in"] = stand_in
    case.notes["restored"] = max(restored, alive)
    measured["gradients_after"] = restored
    before = case.standing(WHITE)
    for loss in ("margin", "ce", "rescaled-ce"):
        left = case.standing(WHITE)
        name = f"stand-in-{loss}"
        restarts = case.budget.restarts if loss == "margin" else 1
        attack = case.pgd(loss=loss, restarts=restarts)
        case.attack(name, Transfer((stand_in,), attack, ("stand-in",)), "adaptive", left)
        gains[loss] = case.gain(name, left)
    total = share(before) - share(case.standing(WHITE))
    measured["gain"] = total
    measured["robust_accuracy"] = share(case.standing(WHITE))
    said = f"a stand-in for what stops the gradient gains {100 * total:.1f} points"
    if restored >= GRADIENT_SHARE > case.notes["gradients"]:
        said += " and has gradients where the model has none"
    return Outcome(
        total <= GAIN, measured, RULE, said,
        (bars("Gain on white-box attacks", "share of samples", gains),),
    )  # fmt: skip


def needed(case: Case, outcomes: dict[str, Outcome]) -> bool:
    """Whether a check failed in a way that an adaptive attack could explain."""
    causes = ("fgsm", "effort", "losses", "gradients", "curve", "random", "black-box", "transfer")
    return any(name in outcomes and outcomes[name].passed is False for name in causes)


def skipped() -> Outcome:
    """What is said where no check asked for it."""
    return Outcome(None, {}, RULE, "not run: no check asked for it")

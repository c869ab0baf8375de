"""Were the attacks adequate? What must hold for attacks that failed to mean anything."""

from __future__ import annotations

from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import Outcome
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.thresholds import GRADIENT_SHARE, MARGIN
from robustpolicy.evaluation.intervals import wilson


def adequacy(case: Case, claim: float, outcomes: dict[str, Outcome]) -> dict[str, tuple[bool, str]]:
    """For each condition, whether it holds, and a sentence about it."""
    if not bool(case.clean.any()):
        return {"samples": (False, "no sample is classified correctly: there is nothing to attack")}
    unbounded = case.notes.get("unbounded", False)
    black, p = gained(case)
    standing = case.standing()
    worst, upper = share(standing), wilson(int(standing.sum()), case.n)[1]
    clear = worst >= claim - MARGIN or upper < claim - MARGIN
    return {
        "outputs": _outputs(case, outcomes["outputs"]),
        "gradients": _gradients(case),
        "unbounded": (
            unbounded,
            "without a bound, every sample is taken to another class"
            if unbounded
            else outcomes["unbounded"].explanation,
        ),
        "black-box": (
            not black,
            "attacks without gradients gain significantly on those with "
            f"(McNemar's p = {p:.1g}), so gradients mislead"
            if black
            else "attacks without gradients gain nothing significant on those with",
        ),
        "samples": (
            clear,
            f"{case.n} samples were enough to tell"
            if clear
            else f"{case.n} samples are too few to tell: the worst case lies more than "
            f"{100 * MARGIN:.0f} points below the claim, and the upper bound does not",
        ),
    }


def _outputs(case: Case, outcome: Outcome) -> tuple[bool, str]:
    names = ("deterministic", "independent", "honest")
    if case.judge.unsteady and not case.notes["random"]:
        count = case.judge.unsteady
        return False, f"{count} examples were judged differently when asked twice"
    return all(case.notes.get(name, False) for name in names), outcome.explanation


def _gradients(case: Case) -> tuple[bool, str]:
    notes = case.notes
    direct = notes.get("gradients", 0.0)
    best = max(direct, notes.get("margin_gradients", 0.0), notes.get("restored", 0.0))
    if direct >= GRADIENT_SHARE:
        return True, f"{100 * direct:.1f} % of the samples have a gradient to follow"
    if best >= GRADIENT_SHARE:
        said = f"gradients are missing, but an adaptive attack has them on {100 * best:.1f} %"
        return True, said
    return False, "the gradients are of no use to an attack, and no stand-in restores them"

"""Attacks that use no gradient must not find what those that do have missed."""

from __future__ import annotations

from robustpolicy.attacks import SPSA, Square
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.thresholds import GAIN, SIGNIFICANCE


def run(case: Case) -> Outcome:
    """Square and SPSA on what white-box attacks left."""
    before = case.standing(WHITE)
    if case.judge.x.ndim == 4:
        case.attack("square", Square(queries=case.budget.queries), "black-box", before)
    steps, directions, samples = case.budget.spsa
    # In a small ball SPSA's own step of .01 would be too long, and so would its differences.
    unit = case.threat.epsilon / 10
    spsa = SPSA(steps, directions, delta=unit, step_size=unit)
    case.attack("spsa", spsa, "black-box", case.some(before, samples))
    gains: dict[str, float] = {
        name: case.gain(name, before) for name in ("square", "spsa") if name in case.attempts
    }
    significant, p = gained(case, "black-box")
    return Outcome(
        not significant,
        {"gain": gains, "p_value": p, "queries_of_square": case.budget.queries},
        f"what they gain on white-box attacks is under {100 * GAIN:.0f} point or not significant "
        f"(McNemar, p < {SIGNIFICANCE:g})",
        "they find what gradient attacks missed: gradients mislead" if significant else
        "attacks without gradients find nothing more",
        (bars("Gain on white-box attacks", "share of samples", gains),),
    )  # fmt: skip

"""AutoAttack standard (Croce & Hein 2020), member by member."""

from __future__ import annotations

from robustpolicy.attacks import VERSIONS
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.thresholds import MARGIN

RULE = f"AutoAttack gains at most {100 * MARGIN:.0f} points on the attacks before it"


def run(case: Case) -> Outcome:
    """Every member on what withstood the one before, from the correct samples on."""
    if not case.budget.autoattack:
        return Outcome(None, {}, RULE, "not run at this budget; --budget standard runs it")
    before = case.standing(WHITE)
    left = case.clean
    accuracies = {}
    for number, member in enumerate(VERSIONS["standard"]):
        kind = "black-box" if member.name == "square" else "white-box"
        name = f"autoattack-{number + 1}-{member.name}"
        if kind == "black-box" and case.judge.x.ndim != 4:
            continue
        attempt = case.attack(name, member, kind, left)
        left = left & ~attempt.fooled
        accuracies[member.name] = share(left)
    gain = share(before) - share(before & left)
    values = list(accuracies.values())
    square = values[-2] - values[-1] if "square" in accuracies and len(values) > 1 else 0.0
    passed = gain <= MARGIN
    return Outcome(
        passed,
        {"robust_accuracy": share(left), "after": accuracies, "gain": gain, "square_gain": square},
        RULE,
        "AutoAttack agrees with the attacks before it" if passed else
        "AutoAttack finds much that the attacks before it missed",
        (bars("Robust accuracy after each attack of AutoAttack", "share of samples", accuracies),),
    )  # fmt: skip

"""Without a bound, an attack must always succeed (Athalye et al. 2018)."""

from __future__ import annotations

import dataclasses
from typing import Any

from robustpolicy.attacks import PGD
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import Outcome, bars
from robustpolicy.evaluation.audit.thresholds import UNBOUNDED_SUCCESS


def run(case: Case) -> Outcome:
    """PGD in a ball that holds the whole range, with other losses where it fails.

    It starts at the input: a random start in such a ball is a noise image, which fools by itself.
    """
    threat = case.threat
    width = threat.high - threat.low
    size = 1 if threat.norm == "Linf" else case.judge.x[0].numel() ** 0.5
    free = dataclasses.replace(threat, epsilon=width * size)
    long = PGD(100, 0.025 * width * size, random_start=False)
    attacks: dict[str, Any] = {
        "cross-entropy": long,
        "margin": dataclasses.replace(long, loss="margin"),
        "margin, long steps": PGD(100, 0.1 * width * size, False, loss="margin"),
        "dlr": dataclasses.replace(long, loss="dlr"),
    }
    left = case.some(case.clean, case.budget.few)
    tried = int(left.sum())
    success = {}
    for label, attack in attacks.items():
        if not bool(left.any()):
            break
        attempt = case.attack(f"unbounded-{label}", attack, "white-box", left, free)
        left &= ~attempt.fooled
        success[label] = 1 - int(left.sum()) / tried
    reached = max(success.values(), default=1.0)
    case.notes["unbounded"] = reached >= UNBOUNDED_SUCCESS
    passed = reached >= UNBOUNDED_SUCCESS
    return Outcome(
        passed,
        {"success": success, "samples": tried},
        "with the whole input range allowed, gradient attacks succeed on every sample",
        "every sample can be turned into another class" if passed else
        f"{int(left.sum())} of {tried} samples withstand any change: the attack is broken, not the "
        "model robust",
        (bars("Success without a bound, cumulated", "share of samples", success),),
    )  # fmt: skip

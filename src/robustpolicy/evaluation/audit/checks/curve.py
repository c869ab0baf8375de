"""Robust accuracy must fall with epsilon, and end at chance."""

from __future__ import annotations

import dataclasses
import itertools

from robustpolicy.attacks import PGD
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import Outcome, lines
from robustpolicy.evaluation.audit.thresholds import GRADIENT_SHARE, NOISE
from robustpolicy.evaluation.curve import robustness_curve

RULE = (
    f"never rises (by over {100 * NOISE:.0f} point), and at half the range at most the share of "
    "the largest class withstands"
)


def run(case: Case) -> Outcome:
    """PGD at rising radii: each from scratch, and each from where the smaller one ended.

    The second kind cannot rise by its construction, so the first is what is held to that.
    """
    if not bool(case.clean.any()):
        return Outcome(None, {}, RULE, "not run: no sample is classified correctly")
    threat = case.threat
    half = 0.5 * (threat.high - threat.low)
    if threat.norm == "L2":
        half *= case.judge.x[0].numel() ** 0.5
    radii = [threat.epsilon * factor for factor in (0.25, 0.5, 1.0, 1.5, 2.0)]
    radii = [radius for radius in radii if radius < half] + [half]
    on = case.some(case.clean, 2 * case.budget.few)
    places = on.nonzero()[:, 0]
    judge, steps, loss = (
        case.judge,
        20,
        "margin" if case.notes["gradients"] < GRADIENT_SHARE else "ce",
    )
    alone = []
    for radius in radii:
        ball = dataclasses.replace(threat, epsilon=radius)
        attack = PGD(steps, 2.5 * radius / steps, loss=loss)
        attempt = case.attack(f"curve-{radius:g}", attack, "white-box", on, ball)
        alone.append(share(~attempt.fooled[places]))
    warm: list[float | None] = [None] * len(radii)
    error = attempt.error
    if not error:
        x, y = judge.x[places], judge.y[places]
        flags = robustness_curve(
            case.model, x, y, threat, radii, steps=steps, loss=loss, seed=judge.seed,
            indices=judge.indices[places], batch_size=judge.batch_size,
        )  # fmt: skip
        warm = [share(row) for row in flags]
    labels = judge.y[places].cpu()
    largest = float(labels.bincount().max()) / len(labels)
    end = alone[-1] if warm[-1] is None else min(alone[-1], warm[-1])
    rises = max((b - a for a, b in itertools.pairwise(alone)), default=0.0)
    said = []
    if rises > NOISE:
        said.append(f"robust accuracy rises by {100 * rises:.1f} points with a larger ball")
    if end > largest:
        said.append(f"at half the range {100 * end:.1f} % still withstand")
    if error:
        said.append(f"PGD could not run: {error}")
    x_axis = [0.0, *(round(radius, 6) for radius in radii)]
    return Outcome(
        not said,
        {"epsilon": radii, "robust_accuracy": alone, "warm_started": warm,
         "largest_class": largest, "samples": len(places)},
        RULE,
        "; ".join(said) or "accuracy falls with the radius, to chance",
        (lines("Robust accuracy over epsilon", "epsilon", "share of correct samples", x_axis,
               each_from_scratch=[1.0, *alone], warm_started=[1.0, *warm]),),
    )  # fmt: skip

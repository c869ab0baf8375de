"""More of the same attack must not find much more."""

from __future__ import annotations

from typing import Any

from robustpolicy.attacks import NoGradientError
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, lines
from robustpolicy.evaluation.audit.thresholds import MARGIN
from robustpolicy.evaluation.audit.trajectory import follow


def run(case: Case) -> Outcome:
    """Twice the steps, then more random starts, on what PGD-40 left."""
    before = case.standing(WHITE)
    case.attack("pgd-80", case.pgd(steps=80), "white-box", before)
    steps = case.gain("pgd-80", before)
    restarts = case.budget.restarts
    left = case.standing(WHITE)
    case.attack("pgd-restarts", case.pgd(restarts=restarts), "white-box", left)
    starts = case.gain("pgd-restarts", left)
    passed = steps + starts <= MARGIN
    return Outcome(
        passed,
        {"gain_of_80_steps": steps, f"gain_of_{restarts}_restarts": starts,
         "robust_accuracy": share(case.standing(WHITE))},
        f"80 steps and {restarts} restarts together gain at most {100 * MARGIN:.0f} points",
        "forty steps from one start find nearly all that more effort finds" if passed else
        "more effort finds much more: PGD-40 is too weak a measure of this model",
        _over_steps(case),
    )  # fmt: skip


def _over_steps(case: Case) -> tuple[dict[str, Any], ...]:
    """Accuracy and loss step by step, on the first few samples."""
    places = case.few(case.clean)
    if len(places) == 0:
        return ()
    x, y = case.batch(places)
    attack = case.pgd(steps=80)
    try:
        path = follow(
            case.model, x, y, case.threat, attack, case.judge.seed, case.judge.indices[places]
        )
    except NoGradientError:
        return ()
    case.notes["path"] = path
    case.notes["path_places"] = places
    counts = list(range(attack.steps + 1))
    last = 1 - path.wrong.double().mean(1)
    ever = 1 - path.wrong.cummax(0).values.double().mean(1)
    quartiles = path.losses.double().quantile(path.losses.new_tensor([0.25, 0.5, 0.75]).double(), 1)
    return (
        lines("Robust accuracy over steps", "PGD step", "share of samples", counts,
              this_iterate=_plain(last), any_iterate_so_far=_plain(ever)),
        lines("Loss along the attack", "PGD step", "cross-entropy", counts,
              lower_quartile=_plain(quartiles[0]), median=_plain(quartiles[1]),
              upper_quartile=_plain(quartiles[2])),
    )  # fmt: skip


def _plain(values: Any) -> list[float | None]:
    """Numbers for JSON, which knows no NaN and no inf."""
    return [round(v, 6) if abs(v) < float("inf") else None for v in values.tolist()]

"""Another random start must give the same number."""

from __future__ import annotations

from robustpolicy.attacks import PGD
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.thresholds import SEED_SPREAD

RULE = f"PGD-40 spreads over at most {100 * SEED_SPREAD:.0f} points between seeds"


def run(case: Case) -> Outcome:
    """PGD-40 from other seeds, on all correct samples; what they find counts."""
    if case.budget.seeds < 2:
        return Outcome(None, {}, RULE, "not run at this budget; --budget full runs it")
    before = case.standing(WHITE)
    accuracies = {str(case.judge.seed): case.accuracy("pgd")}
    first = case.judge.seed
    for seed in range(first + 1, first + case.budget.seeds):
        case.judge.seed = seed
        attack: PGD = case.pgd()
        case.attack(f"pgd-seed-{seed}", attack, "white-box", case.clean)
        accuracies[str(seed)] = case.accuracy(f"pgd-seed-{seed}")
    case.judge.seed = first
    spread = max(accuracies.values()) - min(accuracies.values())
    passed = spread <= SEED_SPREAD
    gain = share(before) - share(case.standing(WHITE))
    return Outcome(
        passed,
        {"robust_accuracy": accuracies, "spread": spread, "gain_of_all": gain},
        RULE,
        "the seed hardly matters" if passed else "the number depends on the seed",
        (bars("Robust accuracy under PGD-40 by seed", "share of samples", accuracies),),
    )

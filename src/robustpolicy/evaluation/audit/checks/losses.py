"""Another loss must not find much more: cross-entropy's gradient dies where logits are large."""

from __future__ import annotations

from typing import Any

from robustpolicy.attacks import APGD
from robustpolicy.evaluation.audit.case import Case, share
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.thresholds import MARGIN


def run(case: Case) -> Outcome:
    """PGD with other losses, and APGD towards the runners-up, on what cross-entropy left."""
    losses: dict[str, Any] = {"rescaled-ce": "rescaled-ce", "margin": "margin", "dlr": "dlr"}
    if case.train_loss is not None:
        losses["training"] = case.train_loss
    before = case.standing(WHITE)
    gains = {}
    for label, loss in losses.items():
        case.attack(f"pgd-{label}", case.pgd(loss=loss), "white-box", before)
        gains[label] = case.gain(f"pgd-{label}", before)
    left = case.standing(WHITE)
    targeted = APGD(case.budget.apgd_steps, targets=case.budget.targets)
    case.attack("apgd-t", targeted, "white-box", left)
    gains["all of these"] = share(before) - share(left)
    gains["then targeted DLR"] = case.gain("apgd-t", left)
    total = share(before) - share(case.standing(WHITE))
    passed = total <= MARGIN
    worst = max(losses, key=lambda label: gains[label])
    said = f"no loss finds much that cross-entropy misses (most: {worst})"
    if not passed:
        said = f"{worst} and the others find what cross-entropy misses: its gradients mislead"
    return Outcome(
        passed,
        {"gain": gains, "robust_accuracy": share(case.standing(WHITE))},
        f"the other losses together gain at most {100 * MARGIN:.0f} points on cross-entropy",
        said + ("; the training loss is not known" if case.train_loss is None else ""),
        (bars("Gain on cross-entropy", "share of samples", gains),),
    )

"""Evaluation: robust accuracy of a model under attacks, sample by sample."""

from robustpolicy.evaluation.evaluate import evaluate
from robustpolicy.evaluation.intervals import wilson
from robustpolicy.evaluation.plan import Plan, evaluate_run, paper_plan
from robustpolicy.evaluation.result import AttackResult, Evaluation
from robustpolicy.evaluation.samples import choose_samples
from robustpolicy.evaluation.target import Target, load_target

__all__ = [
    "AttackResult",
    "Evaluation",
    "Plan",
    "Target",
    "choose_samples",
    "evaluate",
    "evaluate_run",
    "load_target",
    "paper_plan",
    "wilson",
]

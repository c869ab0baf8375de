"""Evaluation: robust accuracy of a model under attacks, sample by sample."""

from robustpolicy.evaluation.evaluate import AttackResult, Evaluation, evaluate
from robustpolicy.evaluation.intervals import wilson
from robustpolicy.evaluation.samples import choose_samples

__all__ = ["AttackResult", "Evaluation", "choose_samples", "evaluate", "wilson"]

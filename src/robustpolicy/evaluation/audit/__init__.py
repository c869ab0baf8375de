"""The audit: a claim of robustness against everything that could refute it.

``audit`` runs the checks of :mod:`robustpolicy.evaluation.audit.checks` on a
:class:`~robustpolicy.evaluation.audit.case.Case` and judges what is left.
"""

from robustpolicy.evaluation.audit.audit import Audit, audit
from robustpolicy.evaluation.audit.case import BUDGETS

__all__ = ["BUDGETS", "Audit", "audit"]

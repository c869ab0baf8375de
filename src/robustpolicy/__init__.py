"""Policy-gradient losses as drop-in replacements for cross-entropy, evaluated honestly.

Everything public is imported when it is first used: ``import robustpolicy`` itself is quick.
"""

from robustpolicy.lazy import lazy
from robustpolicy.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AlternativeLoss": "losses",
        "FGSM": "attacks",
        "PGD": "attacks",
        "PolicyLoss": "losses",
        "Recipe": "training",
        "Threat": "attacks",
        "TwoStageLoss": "losses",
        "UserError": "errors",
        "alternative_loss": "losses",
        "audit": "evaluation.audit",
        "evaluate": "evaluation",
        "get_recipe": "training",
        "policy_loss": "losses",
        "train": "training",
    },
)

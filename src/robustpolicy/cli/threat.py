"""The threat model that ``--norm`` and ``--epsilon`` stand for."""

from __future__ import annotations

from typing import Literal

from robustpolicy.attacks import Threat
from robustpolicy.errors import UserError
from robustpolicy.evaluation.plan import paper_epsilon


def threat_of(norm: Literal["Linf", "L2"], epsilon: float | None, dataset: str) -> Threat:
    """Ball and range for inputs in [0, 1]; the paper's epsilon of the data set if None.

    Raises:
        UserError: none for L2 or for a data set of the user's own, or one that is not a radius in
            [0, 1].
    """
    if epsilon is None and norm == "L2":
        raise UserError("--norm L2 needs an --epsilon; the paper's own are for Linf")
    epsilon = paper_epsilon(dataset) if epsilon is None else epsilon
    if norm == "Linf" and epsilon > 1:
        raise UserError(
            f"--epsilon is {epsilon:g}, but inputs lie in [0, 1]; 8/255, say, is 0.031373"
        )
    return Threat(epsilon, norm=norm)

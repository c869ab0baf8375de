"""Random points of the ball must not fool where gradients fail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.attacks.attack import Attack, on_survivors
from robustpolicy.attacks.noise import keyed
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.thresholds import GAIN, SIGNIFICANCE


@dataclass(frozen=True)
class RandomDraws(Attack):
    """Random points, in turn inside the ball and on its rim (for Linf, at its corners).

    Attributes:
        draws: how many, a sample.
    """

    draws: int

    name: ClassVar[str] = "random"

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        def draw(number: int, left: Tensor) -> Tensor:
            here = x[left]
            normal = threat.norm == "L2"
            noise = keyed(here, indices[left.cpu()], seed, "draw", number, normal=normal)
            if number % 2:
                noise = threat.steepest(noise)
            return threat.project(here + threat.epsilon * noise, here)

        return on_survivors(model, x, y, [partial(draw, k) for k in range(self.draws)])


def run(case: Case) -> Outcome:
    """Draw at random on what white-box attacks left."""
    before = case.standing(WHITE)
    case.attack("random", RandomDraws(case.budget.draws), "random", before)
    significant, p = gained(case, "random")
    gain = case.gain("random", before)
    return Outcome(
        not significant,
        {"gain": gain, "p_value": p, "draws": case.budget.draws},
        f"what {case.budget.draws} draws gain is under {100 * GAIN:.0f} point or not significant "
        f"(McNemar, p < {SIGNIFICANCE:g})",
        "random points find what gradient attacks missed" if significant else
        "random points find nothing more",
        (bars("Gain on white-box attacks", "share of samples", {"random draws": gain}),),
    )  # fmt: skip

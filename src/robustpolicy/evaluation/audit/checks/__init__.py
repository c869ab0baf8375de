"""The checks, in the order in which they run. A new check is one file and one line here.

Each is a function ``run(case) -> Outcome``. None decides alone: a check that fails explains the
verdict and calls for stronger attacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.checks import (
    adaptive,
    autoattack,
    binarisation,
    black_box,
    curve,
    effort,
    fgsm,
    gradients,
    indicators,
    losses,
    outputs,
    random_draws,
    seeds,
    transfer,
    unbounded,
)
from robustpolicy.evaluation.audit.outcome import Outcome


@dataclass(frozen=True)
class Check:
    """A check by its name, its title in reports, and what runs."""

    name: str
    title: str
    run: Callable[[Case], Outcome]


CHECKS = (
    Check("outputs", "The outputs depend on the input alone", outputs.run),
    Check("fgsm", "PGD is at least as strong as FGSM", fgsm.run),
    Check("effort", "More steps and restarts find little more", effort.run),
    Check("losses", "Other losses find little more", losses.run),
    Check("gradients", "There are gradients to follow", gradients.run),
    Check("unbounded", "Without a bound, every attack succeeds", unbounded.run),
    Check("curve", "Robust accuracy falls with epsilon", curve.run),
    Check("random", "Random points find nothing more", random_draws.run),
    Check("autoattack", "AutoAttack agrees", autoattack.run),
    Check("black-box", "Attacks without gradients find nothing more", black_box.run),
    Check("transfer", "Examples from other models find nothing more", transfer.run),
    Check("indicators", "No indicator of attack failure is raised", indicators.run),
    Check("binarisation", "The attack finds planted examples", binarisation.run),
    Check("seeds", "The seed does not matter", seeds.run),
    Check("adaptive", "Adaptive attacks find nothing more", adaptive.run),
)

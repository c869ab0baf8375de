"""PGD must be at least as strong as FGSM (Athalye et al. 2018; Carlini et al. 2019)."""

from __future__ import annotations

from robustpolicy.attacks import FGSM
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import Outcome, bars
from robustpolicy.evaluation.audit.thresholds import NOISE


def run(case: Case) -> Outcome:
    """One large step against forty small ones, on all correct samples."""
    case.attack("fgsm", FGSM(), "white-box", case.clean)
    case.attack("pgd", case.pgd(), "white-box", case.clean)
    fgsm, pgd = case.accuracy("fgsm"), case.accuracy("pgd")
    error = case.attempts["pgd"].error
    passed = pgd <= fgsm + NOISE and not error
    case.notes["pgd"] = pgd
    if error:
        said = f"PGD could not run: {error}"
    elif passed:
        said = "the iterated attack finds what the single step finds"
    else:
        said = "one large step finds more than forty small ones: the loss near the input misleads"
    return Outcome(
        passed,
        {"fgsm": fgsm, "pgd": pgd},
        f"robust accuracy under PGD is at most that under FGSM, {100 * NOISE:.0f} point allowed",
        said,
        (bars("Robust accuracy", "share of samples", {"FGSM": fgsm, "PGD-40": pgd}),),
    )

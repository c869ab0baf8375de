"""Are the outputs a function of the input alone?"""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.attacks import AttackedModel, NoGradientError
from robustpolicy.attacks.losses import margin
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import Outcome, bars
from robustpolicy.evaluation.audit.thresholds import BATCH_TOLERANCE, OUTPUT_TOLERANCE

PASSES = 5


def run(case: Case) -> Outcome:
    """Several passes, a batch of one, other company, and a pass with gradients."""
    x, y = case.batch(case.few(torch.ones_like(case.clean), min(64, case.budget.few)))
    # A model with random outputs is attacked in its expectation; asked is the model as it was.
    model = case.notes.get("original", case.model)
    first = model.logits(x)
    again = max(_distance(first, model.logits(x)) for _ in range(PASSES - 1))
    singles = torch.cat([model.logits(one[None]) for one in x])
    flipped = model.logits(x.flip(0)).flip(0)
    alone = max(_distance(first, singles), _distance(first, flipped))
    try:
        _, watched, _ = model.gradient(x, y, margin)
        gradient = _distance(first, watched)
    except NoGradientError:
        # No gradient at all is another check's matter; a pass that fails is this one's.
        gradient = _under_autograd(model, x, first)
    measured = {"between_passes": again, "between_batches": alone, "under_autograd": gradient}
    case.notes["deterministic"] = again <= OUTPUT_TOLERANCE and not case.notes["random"]
    case.notes["independent"] = alone <= BATCH_TOLERANCE or again > OUTPUT_TOLERANCE
    case.notes["honest"] = gradient <= BATCH_TOLERANCE or again > OUTPUT_TOLERANCE
    found = []
    if not case.notes["deterministic"]:
        found.append(
            "two passes over the same input differ: every number here is under expectation over "
            f"{case.budget.expectation} passes"
        )
    if not case.notes["independent"]:
        found.append("an input's output depends on the batch it comes in")
    if not case.notes["honest"]:
        found.append("the outputs change when gradients are recorded")
    return Outcome(
        not found,
        measured,
        f"logits differ by at most {OUTPUT_TOLERANCE:g} of their norm between passes, and by "
        f"{BATCH_TOLERANCE:g} between batches and with or without gradients",
        "; ".join(found) or "the outputs are a function of the input alone",
        (bars("Greatest relative difference of logits", "share of the norm", measured),),
    )


def _under_autograd(model: AttackedModel, x: Tensor, expected: Tensor) -> float:
    """Relative difference of the logits where the input asks for gradients; 1 if that fails."""
    try:
        return _distance(expected, model.module(x.detach().requires_grad_()).detach())
    except Exception:  # the user's code can raise anything
        return 1.0


def _distance(a: Tensor, b: Tensor) -> float:
    """Greatest relative difference of a sample's logits; of equal infinities, none."""
    difference = torch.where(a == b, 0.0, a - b).norm(dim=1)
    norm = a.norm(dim=1).clamp(min=1e-10)
    return float(torch.nan_to_num(difference / norm, nan=0.0, posinf=1.0).max())

"""Signs that gradient attacks may not tell the whole truth, as data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from robustpolicy.attacks import AttackedModel

#: Two passes may differ by this much, as a share of the logits' norm, and still be called equal.
RANDOM_TOLERANCE = 1e-4
#: Square may lower robust accuracy by this much after gradient attacks without a warning.
SQUARE_GAIN = 0.002


def check_outputs(model: AttackedModel, x: Tensor) -> dict[str, Any]:
    """Look at the outputs on a few inputs.

    Returns:
        ``random_outputs``: two passes differ; expectation over randomness is needed (version
        ``rand``). ``probability_outputs``: they look like a softmax, whose gradients vanish;
        attack the logits instead.
    """
    first = model.logits(x)
    sums = (first.sum(1) - 1).abs().max()
    softmax = bool((first >= 0).all() & (first <= 1).all() & (sums < 1e-5))
    return {"random_outputs": random_outputs(model, x), "probability_outputs": softmax}


def random_outputs(model: AttackedModel, x: Tensor, passes: int = 2) -> bool:
    """Whether several passes over the same inputs differ."""
    first = model.logits(x)
    scale = first.norm(dim=1).clamp(min=1e-10)
    return any(
        bool(((first - model.logits(x)).norm(dim=1) / scale).max() > RANDOM_TOLERANCE)
        for _ in range(passes - 1)
    )


def explain(flags: dict[str, Any]) -> list[str]:
    """The flags that are raised, in words."""
    said = []
    if flags.get("random_outputs"):
        said.append("outputs are random: use --version rand, which averages gradients")
    if flags.get("probability_outputs"):
        said.append("outputs look like probabilities: give the logits, or gradients vanish")
    if flags.get("zero_gradient_share", 0) > 0.01:
        share = 100 * flags["zero_gradient_share"]
        said.append(f"{share:.1f} % of the gradients were zero: robustness may be masked")
    if flags.get("square_gain", 0) > SQUARE_GAIN:
        gain = 100 * flags["square_gain"]
        said.append(f"Square found {gain:.1f} points that gradient attacks missed")
    return said

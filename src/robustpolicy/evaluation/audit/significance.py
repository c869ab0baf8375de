"""Is what black-box attacks gain on white-box ones more than chance?"""

from __future__ import annotations

from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import BLACK, WHITE
from robustpolicy.evaluation.audit.thresholds import GAIN, SIGNIFICANCE


def gained(case: Case, *kinds: str) -> tuple[bool, float]:
    """Whether attacks of these kinds (all but white-box ones if none) gain significantly.

    McNemar's exact test of the worst case without them against that with them: they can only
    add, so every sample on which the two differ counts for them.

    Returns:
        Whether the gain is significant and large enough, and the p-value.
    """
    taken = int((case.standing(WHITE) & ~case.standing((*WHITE, *(kinds or BLACK)))).sum())
    p = min(1.0, 2 * 0.5**taken)
    return p < SIGNIFICANCE and taken / case.n > GAIN, p

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
    white = case.standing(WHITE)
    taken, gain = 0, 0.0
    for name, attempt in case.attempts.items():
        if attempt.kind in (kinds or BLACK):
            taken = max(taken, int((attempt.fooled & white).sum()))
            gain = max(gain, case.gain(name, white))
    union = white & ~case.standing((*WHITE, *(kinds or BLACK)))
    taken = max(taken, int(union.sum()))
    gain = max(gain, int(union.sum()) / case.n)
    p = min(1.0, 2 * 0.5**taken)
    return p < SIGNIFICANCE and gain > GAIN, p

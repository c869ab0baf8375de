"""The verdict: a claim against the worst case over all verified examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustpolicy.evaluation.audit.thresholds import MARGIN

Word = Literal["REAL", "MASKED", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Verdict:
    """The word and its reasons.

    Attributes:
        word: REAL, MASKED or INCONCLUSIVE.
        reasons: why, in words.
    """

    word: Word
    reasons: tuple[str, ...]


def judge_claim(
    claim: float, accuracy: float, upper: float, adequate: dict[str, tuple[bool, str]]
) -> Verdict:
    """Judge a claim.

    MASKED where the upper bound of the worst case lies below the claim less its margin, whatever
    the checks say. Else REAL where the attack was adequate in every respect, else INCONCLUSIVE.

    Args:
        claim: robust accuracy claimed, in [0, 1].
        accuracy: worst case per sample over all verified examples.
        upper: its upper Wilson bound.
        adequate: for each condition, whether it holds, and a sentence about it.
    """
    measured = f"{100 * accuracy:.1f} % withstand every attack, at most {100 * upper:.1f} %"
    if upper < claim - MARGIN:
        return Verdict(
            "MASKED",
            (
                f"{measured} with 95 % confidence: more than {100 * MARGIN:.0f} points below the "
                f"claimed {100 * claim:.1f} %",
                *(text for holds, text in adequate.values() if not holds),
            ),
        )
    near = f"{measured}: the latter is not more than {100 * MARGIN:.0f} points below the claimed "
    near += f"{100 * claim:.1f} %"
    failed = tuple(text for holds, text in adequate.values() if not holds)
    if failed:
        return Verdict("INCONCLUSIVE", (near, *failed))
    return Verdict("REAL", (near, *(text for _, text in adequate.values())))

"""The paper's claims about its grids, tested on its own printed cells and on ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from robustpolicy.experiments.measurements import Measurement
from robustpolicy.experiments.paper.printed import number
from robustpolicy.experiments.trends import LEVEL, lowest_by_chance, trend

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "not enough data"
#: What the paper calls robustness.
MEASURES = ("fgsm", "pgd", "autoattack", "transfer")
#: lambda_2 that it says is the least robust.
LOWEST = 0.5

Grid = Mapping[tuple[float, float], float]


@dataclass(frozen=True)
class Claim:
    """What the paper says about a grid.

    Attributes:
        text: in words.
        along: the penalty that changes while the other is fixed.
        expected: what robust accuracy does along it.
    """

    text: str
    along: Literal["lambda_1", "lambda_2"]
    expected: Literal["rises", "falls", "nothing", "lowest"]


#: Experiment -> what the paper says about it (its section on the loss landscape).
CLAIMS: dict[str, tuple[Claim, ...]] = {
    "table1": (
        Claim("rises with lambda_2 at fixed lambda_1", "lambda_2", "rises"),
        Claim("falls with lambda_1 at fixed lambda_2", "lambda_1", "falls"),
        Claim("is lowest at lambda_2 = .5 for each lambda_1", "lambda_2", "lowest"),
    ),
    "table2": (
        Claim("has no tendency along lambda_2", "lambda_2", "nothing"),
        Claim("has no tendency along lambda_1", "lambda_1", "nothing"),
    ),
}


@dataclass(frozen=True)
class Answer:
    """What a test of a claim says.

    Attributes:
        claim: what is claimed.
        source: ``"paper"`` or ``"ours"``.
        measure: heading of the measure.
        answer: ``"holds"``, ``"does not hold"`` or ``"not enough data"``.
        p: p-value of the test that decides; None where there are no data.
        evidence: the estimate in words.
        reduced: how our data are reduced; empty if they are not.
    """

    claim: Claim
    source: str
    measure: str
    answer: str
    p: float | None
    evidence: str
    reduced: str = ""


def judge_claims(name: str, records: Sequence[Measurement]) -> list[Answer]:
    """Test the claims about an experiment under each measure of robustness.

    Args:
        name: of the experiment; one without claims gives none.
        records: see :func:`robustpolicy.experiments.measurements.measurements`.
    """
    answers = []
    for claim in CLAIMS.get(name, ()):
        for measure in MEASURES:
            own = [record for record in records if record.measure == measure]
            if not own:
                continue
            printed = _grid(own, [number(record.paper) for record in own])
            if printed:
                answers.append(judge(claim, printed, "paper", own[0].heading))
            reduced = next((record.reduced for record in own if record.reduced), "")
            measured = _grid(own, [record.ours for record in own])
            answers.append(judge(claim, measured, "ours", own[0].heading, reduced))
    return answers


def judge(claim: Claim, grid: Grid, source: str, measure: str, reduced: str = "") -> Answer:
    """Test one claim on one grid: (lambda_1, lambda_2) -> robust accuracy."""
    lines = _lines(grid, claim.along)
    if claim.expected == "lowest":
        answer, p, evidence = _lowest(lines)
    else:
        answer, p, evidence = _trend(claim, [list(line.values()) for line in lines])
    return Answer(claim, source, measure, answer, p, evidence, reduced)


def _trend(claim: Claim, lines: list[list[float]]) -> tuple[str, float | None, str]:
    if not lines:
        return UNKNOWN, None, "no line of two cells or more"
    found = trend(lines)
    evidence = f"rank correlation {found.correlation:+.2f}, mean of {found.lines} lines"
    if claim.expected == "nothing":
        if found.either < LEVEL:
            return FAILS, found.either, evidence
        return HOLDS if found.enough else UNKNOWN, found.either, evidence
    ahead, against = found.rising, found.falling
    if claim.expected == "falls":
        ahead, against = against, ahead
    if ahead < LEVEL:
        return HOLDS, ahead, evidence
    return FAILS if found.enough or against < LEVEL else UNKNOWN, ahead, evidence


def _lowest(lines: list[dict[float, float]]) -> tuple[str, float | None, str]:
    """Whether LOWEST is where accuracy is least, more often than chance would have it."""
    fitting = [line for line in lines if LOWEST in line and len(line) > 2]
    if not fitting:
        return UNKNOWN, None, "no line of three cells or more with .5 among them"
    count = sum(min(line, key=line.__getitem__) == LOWEST for line in fitting)
    length = min(map(len, fitting))
    p = lowest_by_chance(count, len(fitting), length)
    evidence = f"lowest in {count} of {len(fitting)} lines"
    if p < LEVEL:
        return HOLDS, p, evidence
    return FAILS if (1 / length) ** len(fitting) < LEVEL else UNKNOWN, p, evidence


def _grid(records: Sequence[Measurement], values: Sequence[float | None]) -> Grid:
    return {
        (record.lambda_1, record.lambda_2): value
        for record, value in zip(records, values, strict=True)
        if value is not None and record.lambda_1 is not None and record.lambda_2 is not None
    }


def _lines(grid: Grid, along: str) -> list[dict[float, float]]:
    """The lines of a grid along one penalty, rising, those of one cell left out."""
    fixed, moving = (0, 1) if along == "lambda_2" else (1, 0)
    lines: dict[float, dict[float, float]] = {}
    for place in sorted(grid, key=lambda place: place[moving]):
        lines.setdefault(place[fixed], {})[place[moving]] = grid[place]
    return [line for line in lines.values() if len(line) > 1]

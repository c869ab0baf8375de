"""Indicators of attack failure (Pintor et al. 2022), on the path of PGD."""

from __future__ import annotations

from typing import Any

import torch

from robustpolicy.attacks.losses import margin
from robustpolicy.evaluation.audit.case import Case, beside
from robustpolicy.evaluation.audit.outcome import Outcome, bars
from robustpolicy.evaluation.audit.thresholds import INDICATOR, UNFINISHED, UNSTABLE
from robustpolicy.evaluation.audit.trajectory import Trajectory

RULE = (
    f"none of the six indicators holds for more than {100 * INDICATOR:.0f} % of the samples "
    "that it looks at"
)


def run(case: Case) -> Outcome:
    """Six ways in which an attack can fail without saying so."""
    path: Trajectory | None = case.notes.get("path")
    if path is None:
        return Outcome(
            False if case.attempts["pgd"].error else None, {}, RULE,
            "gradients are unavailable: PGD has no path to look at",
        )  # fmt: skip
    ever = path.wrong.any(0)
    failed = ~ever  # an attack that succeeded has not failed
    values: dict[str, float | None] = {
        "unavailable gradients": _share(path.zero[0] & failed),
        "unstable predictions": _unstable(case),
        "silent success": _share(ever & ~path.wrong[-1]),
        "incomplete optimisation": _share(_unfinished(path) & failed),
        "transfer failure": _transfer_failure(case),
        "unconstrained failure": 0.0 if case.notes["unbounded"] else 1.0,
    }
    raised = [name for name, value in values.items() if value is not None and value > INDICATOR]
    # A transferred example that fails says little about a robust model: shown, not counted.
    counted = [name for name in raised if name != "transfer failure"]
    shown = {name: value for name, value in values.items() if value is not None}
    return Outcome(
        not counted,
        dict(values),
        RULE + "; failed transfer is shown and not counted",
        f"raised: {', '.join(counted)}" if counted else "none is raised",
        (bars("Indicators of attack failure", "share of samples", shown), *_plane(case, path)),
    )


def _share(flags: torch.Tensor) -> float:
    return float(flags.double().mean())


def _unstable(case: Case) -> float:
    """Share of samples whose margin changes much under noise of a hundredth of epsilon."""
    x, y = case.batch(case.notes["path_places"])
    draws = torch.Generator().manual_seed(case.judge.seed)
    base = margin(case.model.logits(x), y)
    changes = []
    for _ in range(5):
        moved = beside(case.threat, x, 0.01, draws)
        changes.append((margin(case.model.logits(moved), y) - base).abs())
    relative = torch.stack(changes).mean(0) / base.abs().clamp(min=1e-10)
    return _share(relative > UNSTABLE)


def _unfinished(path: Trajectory) -> torch.Tensor:
    """Whether the greatest loss so far still grew over the last tenth of the steps."""
    best = path.losses.double().cummax(0).values
    before = best[-1 - max(len(best) // 10, 1)]
    reach = (best[-1] - best[0]).clamp(min=1e-12)
    return (best[-1] - before) / reach > UNFINISHED


def _transfer_failure(case: Case) -> float | None:
    """Share of transferred attacks that came to nothing on the target."""
    tried = [a for a in case.attempts.values() if a.kind == "transfer" and bool(a.tried.any())]
    if not tried:
        return None
    return 1 - max(float(a.fooled[a.tried].double().mean()) for a in tried)


def _plane(case: Case, path: Trajectory) -> tuple[dict[str, Any], ...]:
    """The margin of one sample over the plane of an adversarial and a random direction."""
    index = int((~path.wrong.any(0)).double().argmax())
    x, y = case.batch(case.notes["path_places"][index : index + 1])
    toward = path.last[index : index + 1].to(x) - x
    draws = torch.Generator().manual_seed(case.judge.seed)
    aside = (2.0 * torch.randint(2, x.shape, generator=draws) - 1).to(x)
    aside = aside * case.threat.size(toward).clamp(min=1e-12) / case.threat.size(aside)
    ticks = torch.linspace(-1.5, 1.5, 31)
    points = torch.cat([x + a * toward + b * aside for b in ticks for a in ticks])
    points = points.clamp(case.threat.low, case.threat.high)
    values = torch.cat(
        [margin(case.model.logits(p), y.expand(len(p))) for p in torch.split(points, 500)]
    )
    grid = torch.nan_to_num(values.view(31, 31)).cpu()
    return (
        {
            "kind": "heatmap",
            "title": "Greatest wrong logit minus the right one (above 0: misclassified)",
            "xlabel": "towards PGD's last iterate",
            "ylabel": "in a random direction",
            "extent": [-1.5, 1.5, -1.5, 1.5],
            "values": [[round(v, 5) for v in row] for row in grid.tolist()],
        },
    )

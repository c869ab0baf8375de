"""What an evaluation found, sample by sample, and as plain data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from robustpolicy.attacks import Threat
from robustpolicy.evaluation.flags import explain
from robustpolicy.evaluation.intervals import wilson


@dataclass(frozen=True)
class AttackResult:
    """What one attack, or none (``clean``), left of a model's accuracy.

    Attributes:
        name: ``clean``, ``fgsm``, ``pgd``, ``autoattack``, ...
        robust: bool, shape (N,): classified correctly, clean and under this attack.
        config: the attack's whole configuration.
        seconds: wall time, that of earlier calls included where a state was resumed.
        forwards: samples sent through the model.
        gradients: input gradients computed.
        zero_gradients: how many of them were zero throughout.
        members: for a sequence, the result after each of its attacks.
    """

    name: str
    robust: Tensor
    config: dict[str, Any]
    seconds: float = 0.0
    forwards: int = 0
    gradients: int = 0
    zero_gradients: int = 0
    members: tuple[AttackResult, ...] = ()

    @property
    def robust_accuracy(self) -> float:
        """Share of robust samples, in [0, 1]."""
        return int(self.robust.sum()) / len(self.robust)

    @property
    def flags(self) -> dict[str, Any]:
        """Signs that gradients were of little use."""
        flags: dict[str, Any] = {}
        if self.gradients:
            flags["zero_gradient_share"] = self.zero_gradients / self.gradients
        names = [member.name for member in self.members]
        if "square" in names[1:]:
            place = names.index("square")
            before, after = self.members[place - 1], self.members[place]
            flags["square_gain"] = before.robust_accuracy - after.robust_accuracy
        return flags

    def to_json(self) -> dict[str, Any]:
        """Plain data; the flags of robustness as a string of 0 and 1, one a sample."""
        robust = self.robust.tolist()
        data = {
            "robust_accuracy": self.robust_accuracy,
            "interval": list(wilson(sum(robust), len(robust))),
            "config": self.config,
            "seconds": round(self.seconds, 3),
            "forward_evaluations": self.forwards,
            "gradient_evaluations": self.gradients,
            "flags": self.flags,
            "robust": "".join("01"[flag] for flag in robust),
        }
        if self.members:
            data["members"] = {member.name: member.to_json() for member in self.members}
        return data


@dataclass(frozen=True)
class Evaluation:
    """Results of several attacks on the same samples.

    Attributes:
        threat: ball and range.
        seed: seed of the attacks' randomness.
        attacks: results by attack name, in the order they ran.
        flags: what the outputs looked like: random, probabilities.
    """

    threat: Threat
    seed: int
    attacks: dict[str, AttackResult]
    flags: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Robust accuracies in percent; the flags of each sample would fill pages."""
        shown = ", ".join(f"{k} {100 * v.robust_accuracy:.2f}" for k, v in self.attacks.items())
        return f"Evaluation({shown}; n={self.n}, {self.threat})"

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.robust)

    @property
    def robust(self) -> Tensor:
        """Worst case per sample over all attacks: bool, shape (N,)."""
        return torch.stack([result.robust for result in self.attacks.values()]).all(0)

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that withstand every attack, in [0, 1]."""
        return int(self.robust.sum()) / self.n

    @property
    def warnings(self) -> list[str]:
        """What the flags mean, in words; empty if none is raised."""
        said = explain(self.flags)
        for result in self.attacks.values():
            said += [f"{result.name}: {line}" for line in explain(result.flags)]
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json`` and the run folder."""
        worst = int(self.robust.sum())
        return {
            "n": self.n,
            "threat": dataclasses.asdict(self.threat),
            "seed": self.seed,
            "flags": self.flags,
            "warnings": self.warnings,
            "attacks": {name: result.to_json() for name, result in self.attacks.items()},
            "worst_case": {
                "robust_accuracy": self.robust_accuracy,
                "interval": list(wilson(worst, self.n)),
            },
        }


def merge(parts: list[Evaluation]) -> Evaluation:
    """One evaluation from those of consecutive shards of its samples."""
    first = parts[0]
    attacks = {name: _merge([part.attacks[name] for part in parts]) for name in first.attacks}
    flags = {key: any(part.flags[key] for part in parts) for key in first.flags}
    return Evaluation(first.threat, first.seed, attacks, flags)


def _merge(parts: list[AttackResult]) -> AttackResult:
    members = zip(*(part.members for part in parts), strict=True)
    return AttackResult(
        parts[0].name,
        torch.cat([part.robust for part in parts]),
        parts[0].config,
        max(part.seconds for part in parts),  # they ran beside each other
        sum(part.forwards for part in parts),
        sum(part.gradients for part in parts),
        sum(part.zero_gradients for part in parts),
        tuple(_merge(list(same)) for same in members),
    )


def describe(attack: Any) -> dict[str, Any]:
    """An attack's configuration as plain data."""
    fields = dataclasses.fields(attack) if dataclasses.is_dataclass(attack) else ()
    return {one.name: _plain(getattr(attack, one.name)) for one in fields}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if dataclasses.is_dataclass(value):
        return {"name": getattr(value, "name", type(value).__name__), **describe(value)}
    return getattr(value, "__name__", str(value)) if callable(value) else value

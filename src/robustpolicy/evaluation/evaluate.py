"""Robust accuracy: the worst case per sample over verified adversarial examples."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import ATTACKS, AttackedModel, Threat
from robustpolicy.errors import UserError
from robustpolicy.evaluation.intervals import wilson
from robustpolicy.losses.validation import check_shapes, check_values

#: Called with (attack, samples done, samples in all).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AttackResult:
    """What one attack, or none (``clean``), left of a model's accuracy.

    Attributes:
        name: ``clean``, ``fgsm``, ``pgd``, ...
        robust: bool, shape (N,): classified correctly, clean and under this attack.
        config: the attack's whole configuration.
        seconds: wall time.
        forwards: samples sent through the model.
        gradients: input gradients computed.
    """

    name: str
    robust: Tensor
    config: dict[str, Any]
    seconds: float
    forwards: int
    gradients: int

    @property
    def robust_accuracy(self) -> float:
        """Share of robust samples, in [0, 1]."""
        return int(self.robust.sum()) / len(self.robust)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the flags as a string of 0 and 1, one a sample."""
        robust = self.robust.tolist()
        return {
            "robust_accuracy": self.robust_accuracy,
            "interval": list(wilson(sum(robust), len(robust))),
            "config": self.config,
            "seconds": round(self.seconds, 3),
            "forward_evaluations": self.forwards,
            "gradient_evaluations": self.gradients,
            "robust": "".join("01"[flag] for flag in robust),
        }


@dataclass(frozen=True)
class Evaluation:
    """Results of several attacks on the same samples.

    Attributes:
        threat: ball and range.
        seed: seed of the attacks' randomness.
        attacks: results by attack name, in the order they ran.
    """

    threat: Threat
    seed: int
    attacks: dict[str, AttackResult]

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

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json`` and the run folder."""
        worst = int(self.robust.sum())
        return {
            "n": self.n,
            "threat": {"norm": self.threat.norm, **dataclasses.asdict(self.threat)},
            "seed": self.seed,
            "attacks": {name: result.to_json() for name, result in self.attacks.items()},
            "worst_case": {
                "robust_accuracy": self.robust_accuracy,
                "interval": list(wilson(worst, self.n)),
            },
        }


def evaluate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    attacks: Sequence[Any] = ("clean", "fgsm", "pgd"),
    *,
    seed: int = 0,
    indices: Tensor | None = None,
    batch_size: int = 500,
    progress: Progress | None = None,
) -> Evaluation:
    """Attack a model and count the samples that withstand.

    A sample is robust to an attack if it is classified correctly both as it is and as the attack
    left it. Samples that the model gets wrong as they are need no attack. Every adversarial
    example is verified to lie in the ball and in the range.

    Args:
        model: classifier, inputs in the threat's range, outputs logits (B, C).
        x: inputs, floating, shape (N, ...), on the model's device.
        y: labels, int64, shape (N,).
        threat: ball and range.
        attacks: names of :data:`robustpolicy.attacks.ATTACKS`, ``"clean"``, or attacks with
            their configuration such as ``PGD(steps=100)``.
        seed: seed of the attacks' randomness.
        indices: index of each sample in its data set, shape (N,), which keys its randomness.
        batch_size: samples a batch.
        progress: called after each batch.

    Raises:
        UserError: inputs outside the range, labels that do not fit, NaN or inf logits, an unknown
            attack, or an attack that left its ball.
    """
    if len(x) == 0 or len(x) != len(y):
        raise UserError(f"{len(x)} inputs and {len(y)} labels; give at least one of each, as many")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give at least 1")
    threat.check_inputs(x)
    if indices is None:
        indices = torch.arange(len(x))
    elif len(indices) != len(x):
        raise UserError(f"{len(indices)} indices for {len(x)} inputs; give one an input")
    chosen = [_get_attack(attack) for attack in attacks]
    if not chosen:
        raise UserError(f"no attacks; choose some of clean, {', '.join(ATTACKS)}")
    results: dict[str, AttackResult] = {}
    with AttackedModel(model) as attacked:
        clean = _evaluate_clean(attacked, x, y, batch_size, progress)
        for attack in chosen:
            if attack is None:
                results["clean"] = clean
                continue
            name = str(getattr(attack, "name", None) or getattr(attack, "__name__", "attack"))
            name = _unused_name(name, results)
            results[name] = _evaluate_attack(
                attacked,
                attack,
                name,
                x,
                y,
                clean.robust,
                threat,
                seed,
                indices,
                batch_size,
                progress,
            )
    return Evaluation(threat, seed, results)


def _evaluate_clean(
    model: AttackedModel, x: Tensor, y: Tensor, batch_size: int, progress: Progress | None
) -> AttackResult:
    begun = time.perf_counter()
    correct = []
    for first in range(0, len(x), batch_size):
        labels = y[first : first + batch_size]
        logits = _first_logits(model, x[first : first + batch_size])
        check_shapes(logits, labels)
        check_values(logits, labels)
        correct.append(logits.argmax(1) == labels)
        if progress:
            progress("clean", min(first + batch_size, len(x)), len(x))
    robust = torch.cat(correct).cpu()
    return AttackResult("clean", robust, {}, time.perf_counter() - begun, len(x), 0)


def _first_logits(model: AttackedModel, x: Tensor) -> Tensor:
    """Logits of a model that may not fit the data."""
    try:
        logits = model.logits(x)
    except Exception as error:  # the user's code can raise anything
        detail = " ".join(str(error).split())[:200]
        raise UserError(
            f"the model cannot take a batch of shape {tuple(x.shape)}: {detail}; is it made for "
            "this data set?"
        ) from None
    if not isinstance(logits, Tensor):
        raise UserError(f"the model returns {type(logits).__name__}; it must return logits (B, C)")
    return logits


def _evaluate_attack(
    model: AttackedModel,
    attack: Any,
    name: str,
    x: Tensor,
    y: Tensor,
    correct: Tensor,
    threat: Threat,
    seed: int,
    indices: Tensor,
    batch_size: int,
    progress: Progress | None,
) -> AttackResult:
    begun = time.perf_counter()
    forwards, gradients = model.forwards, model.gradients
    robust = correct.clone()
    todo = correct.nonzero()[:, 0]
    for first in range(0, len(todo), batch_size):
        batch = todo[first : first + batch_size]
        here = batch.to(x.device)
        clean, labels = x[here], y[here]
        x_adv = attack(model, clean, labels, threat, seed=seed, indices=indices[batch])
        if not isinstance(x_adv, Tensor) or x_adv.shape != clean.shape:
            raise UserError(f"attack {name} did not return a tensor of shape {tuple(clean.shape)}")
        valid = threat.verify(clean, x_adv)
        if not bool(valid.all()):
            raise UserError(
                f"attack {name} left its threat model on {int((~valid).sum())} of {len(batch)} "
                "samples; its result does not count, so the evaluation stops"
            )
        # Judged anew on the final examples: an attack's own word is not taken.
        robust[batch] = (~model.wrong(model.logits(x_adv), labels)).cpu()
        if progress:
            progress(name, min(first + batch_size, len(todo)), len(todo))
    return AttackResult(
        name,
        robust,
        _config(attack),
        time.perf_counter() - begun,
        model.forwards - forwards,
        model.gradients - gradients,
    )


def _get_attack(attack: Any) -> Any:
    """An attack object; None stands for clean."""
    if not isinstance(attack, str):
        return attack
    if attack == "clean":
        return None
    if attack not in ATTACKS:
        raise UserError(f"unknown attack {attack!r}; choose some of clean, {', '.join(ATTACKS)}")
    return ATTACKS[attack]()


def _unused_name(name: str, results: dict[str, AttackResult]) -> str:
    """The attack's name, numbered if it is there already."""
    number, unused = 1, name
    while unused in results:
        number += 1
        unused = f"{name}-{number}"
    return unused


def _config(attack: Any) -> dict[str, Any]:
    fields = dataclasses.fields(attack) if dataclasses.is_dataclass(attack) else ()
    values = {field.name: getattr(attack, field.name) for field in fields}
    return {
        key: getattr(value, "__name__", str(value)) if callable(value) else value
        for key, value in values.items()
    }

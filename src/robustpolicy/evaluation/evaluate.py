"""Robust accuracy: the worst case per sample over verified adversarial examples."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import ATTACKS, AttackedModel, Threat
from robustpolicy.errors import UserError
from robustpolicy.evaluation.flags import check_outputs
from robustpolicy.evaluation.judge import Judge, Progress, silent
from robustpolicy.evaluation.result import AttackResult, Evaluation, describe
from robustpolicy.evaluation.store import Store, digest, model_digest
from robustpolicy.losses.validation import check_shapes, check_values


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
    state: str | Path | None = None,
    about: dict[str, Any] | None = None,
) -> Evaluation:
    """Attack a model and count the samples that withstand.

    A sample is robust to an attack if it is classified correctly both as it is and as the attack
    left it. Samples that the model gets wrong as they are need no attack. Every adversarial
    example is verified to lie in the ball and in the range.

    Args:
        model: classifier, inputs in the threat's range, outputs logits (B, C).
        x: inputs, float32, shape (N, ...), on any device.
        y: labels, int64, shape (N,).
        threat: ball and range.
        attacks: names of :data:`robustpolicy.attacks.ATTACKS`, ``"clean"``, or attacks with
            their configuration such as ``PGD(steps=100)`` or ``AutoAttack()``.
        seed: seed of the attacks' randomness.
        indices: index of each sample in its data set, shape (N,), which keys its randomness.
        batch_size: samples a batch.
        progress: called after each batch.
        state: folder in which each batch is kept as soon as it is done; the same call after a
            kill goes on from there and ends with the same flags.
        about: kept beside the state, for those who verify it later.

    Raises:
        UserError: inputs outside the range, labels that do not fit, NaN or inf logits, an unknown
            attack, an attack that left its ball, or a state of another evaluation.
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
    named = _name(chosen)
    store = None
    if state is not None:
        identity = {
            "model": model_digest(model),
            "data": digest(x, y, indices),
            "threat": dataclasses.asdict(threat),
            "attacks": {name: attack and describe(attack) for name, attack in named.items()},
            "seed": seed,
            "batch_size": batch_size,
            "indices": indices.tolist(),
            "about": about or {},
        }
        store = Store(state, identity)
    results: dict[str, AttackResult] = {}
    with AttackedModel(model) as attacked:
        judge = Judge(attacked, x, y, threat, seed, indices, batch_size, progress or silent, store)
        clean = evaluate_clean(judge)
        flags = check_outputs(attacked, attacked.place(x[:batch_size]))
        for name, attack in named.items():
            results[name] = clean if attack is None else judge.run(attack, name, clean.robust)
    return Evaluation(threat, seed, results, flags)


def evaluate_clean(judge: Judge) -> AttackResult:
    """Which samples a model classifies correctly; raises UserError for outputs that do not fit."""
    begun = time.perf_counter()
    correct = []
    size = judge.batch_size
    for first in range(0, len(judge.x), size):
        labels = judge.model.place(judge.y[first : first + size])
        model = judge.referee or judge.model
        logits = _first_logits(model, model.place(judge.x[first : first + size]))
        check_shapes(logits, labels)
        check_values(logits, labels)
        correct.append(logits.argmax(1) == labels)
        judge.progress("clean", min(first + size, len(judge.x)), len(judge.x))
    robust = torch.cat(correct).cpu()
    return AttackResult("clean", robust, {}, time.perf_counter() - begun, len(judge.x))


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


def _get_attack(attack: Any) -> Any:
    """An attack object; None stands for clean."""
    if not isinstance(attack, str):
        return attack
    if attack == "clean":
        return None
    if attack not in ATTACKS:
        raise UserError(f"unknown attack {attack!r}; choose some of clean, {', '.join(ATTACKS)}")
    return ATTACKS[attack]


def _name(attacks: Sequence[Any]) -> dict[str, Any]:
    """Attacks by name, numbered where a name comes again."""
    named: dict[str, Any] = {}
    for attack in attacks:
        plain = getattr(attack, "name", None) or getattr(attack, "__name__", "attack")
        base = name = "clean" if attack is None else str(plain)
        number = 1
        while name in named:
            number += 1
            name = f"{base}-{number}"
        named[name] = attack
    return named

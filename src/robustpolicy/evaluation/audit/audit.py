"""The audit: is this robustness real?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import PGD, AttackedModel, AttackLoss, Threat
from robustpolicy.attacks.losses import get_attack_loss
from robustpolicy.errors import UserError
from robustpolicy.evaluation.audit.adaptive import Expected
from robustpolicy.evaluation.audit.case import BUDGETS, Case, share
from robustpolicy.evaluation.audit.checks import CHECKS, Check
from robustpolicy.evaluation.audit.checks.adaptive import needed, skipped
from robustpolicy.evaluation.audit.outcome import Attempt, Outcome
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.thresholds import GRADIENT_SHARE, MARGIN
from robustpolicy.evaluation.audit.verdict import Verdict, judge_claim
from robustpolicy.evaluation.evaluate import evaluate_clean
from robustpolicy.evaluation.flags import random_outputs
from robustpolicy.evaluation.intervals import wilson
from robustpolicy.evaluation.judge import Judge, Progress, silent
from robustpolicy.evaluation.store import Store, digest, model_digest

#: Called with a check's title, its number from 0, and how many there are.
OnCheck = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        verdict: REAL, MASKED or INCONCLUSIVE.
        budget: quick, standard or full: how hard it tried.
        reasons: why, in words.
        claim: the robust accuracy that was judged, in [0, 1].
        claim_source: where it comes from.
        robust: worst case per sample over all verified examples, bool, shape (N,).
        clean: correctly classified samples, bool, shape (N,).
        threat: ball and range.
        seed: of all randomness.
        outcomes: by check, with the seconds it took.
        attempts: every attack, by name, in the order they ran.
        seconds: in all.
    """

    verdict: str
    budget: str
    reasons: tuple[str, ...]
    claim: float
    claim_source: str
    robust: Tensor = field(repr=False)
    clean: Tensor = field(repr=False)
    threat: Threat
    seed: int
    outcomes: dict[str, tuple[Check, Outcome, float]] = field(repr=False)
    attempts: dict[str, Attempt] = field(repr=False)
    seconds: float

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that withstand every attack, in [0, 1]."""
        return share(self.robust)

    @property
    def interval(self) -> tuple[float, float]:
        """Its Wilson interval of 95 %."""
        return wilson(int(self.robust.sum()), len(self.robust))

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        low, high = self.interval
        return (
            f"{self.verdict} at {self.budget} budget: claimed {100 * self.claim:.1f} % "
            f"({self.claim_source}), measured {100 * self.robust_accuracy:.1f} % "
            f"({100 * low:.1f} to {100 * high:.1f}) over {len(self.attempts)} attacks on "
            f"{len(self.robust)} samples"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        standing, attacks = self.clean.clone(), {}
        for name, attempt in self.attempts.items():
            new = standing & attempt.fooled
            standing &= ~attempt.fooled
            attacks[name] = {
                "kind": attempt.kind,
                "tried": int(attempt.tried.sum()),
                "fooled": int(attempt.fooled.sum()),
                "gained": int(new.sum()),
                "robust_accuracy": share(standing),
                "seconds": round(attempt.seconds, 3),
                "config": attempt.config,
                "error": attempt.error,
            }
        checks = [
            {"name": name, "title": check.title, **dataclasses.asdict(outcome),
             "seconds": round(seconds, 2)}
            for name, (check, outcome, seconds) in self.outcomes.items()
        ]  # fmt: skip
        return {
            "verdict": self.verdict,
            "budget": self.budget,
            "summary": self.summary,
            "reasons": list(self.reasons),
            "claim": self.claim,
            "claim_source": self.claim_source,
            "margin": MARGIN,
            "robust_accuracy": self.robust_accuracy,
            "interval": list(self.interval),
            "clean_accuracy": share(self.clean),
            "n": len(self.robust),
            "threat": dataclasses.asdict(self.threat),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "attacks": attacks,
            "checks": checks,
            "robust": "".join("01"[flag] for flag in self.robust.tolist()),
        }


def audit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    claim: float | None = None,
    train_data: tuple[Tensor, Tensor] | None = None,
    surrogates: Mapping[str, nn.Module] | Sequence[nn.Module] = (),
    train_loss: str | AttackLoss | None = None,
    budget: str = "standard",
    seed: int = 0,
    indices: Tensor | None = None,
    batch_size: int = 500,
    progress: Progress | None = None,
    on_check: OnCheck | None = None,
    state: str | Path | None = None,
    about: dict[str, Any] | None = None,
) -> Audit:
    """Judge a claim of robust accuracy: REAL, MASKED or INCONCLUSIVE.

    The verdict rests on the worst case per sample over all adversarial examples, each verified to
    lie in the ball and the range and to fool the model itself. The checks explain it and call for
    stronger attacks; none decides alone.

    Args:
        model: any classifier of inputs in the threat's range, logits (B, C), C >= 2.
        x: inputs that it was not trained on, float32, shape (N, ...), in random order.
        y: labels, int64, shape (N,).
        threat: ball and range.
        claim: robust accuracy claimed, in [0, 1]; PGD-40 with cross-entropy if None.
        train_data: training images (float in the range, or uint8) and labels, for a twin.
        surrogates: other models of the same task.
        train_loss: the loss that the model was trained with: a name of ``ATTACK_LOSSES`` or a
            function (logits, labels) -> (B,).
        budget: ``"quick"``, ``"standard"`` or ``"full"``.
        seed: seed of all randomness.
        indices: index of each sample in its data set, shape (N,), which keys its randomness.
        batch_size: samples a batch.
        progress: called within attacks with (attack, samples done, samples in all).
        on_check: called as each check begins with (title, number, of how many).
        state: folder in which attacks are kept batch by batch; the same call goes on from there.
        about: kept beside the state.

    Raises:
        UserError: bad input, as for :func:`robustpolicy.evaluate`.
    """
    begun = time.perf_counter()
    _check_arguments(x, y, threat, claim, train_data, budget)
    if train_loss is not None:
        get_attack_loss(train_loss)
    others = surrogates if isinstance(surrogates, Mapping) else {
        f"surrogate-{number + 1}": one for number, one in enumerate(surrogates)
    }  # fmt: skip
    if indices is None:
        indices = torch.arange(len(x))
    store = None
    if state is not None:
        identity = {
            "audit": budget,
            "model": model_digest(model),
            "data": digest(x, y, indices, *(train_data or ())),
            "surrogates": {name: model_digest(one) for name, one in others.items()},
            "train_loss": str(train_loss),
            "threat": dataclasses.asdict(threat),
            "seed": seed,
            "batch_size": batch_size,
            "indices": indices.tolist(),
            "about": about or {},
        }
        store = Store(state, identity)
    # Outputs can be random: the same audit twice must still find the same.
    with torch.random.fork_rng(), AttackedModel(model) as original:
        torch.manual_seed(seed)
        source = "PGD-40 with cross-entropy" if claim is None else "given"
        judge = Judge(original, x, y, threat, seed, indices, batch_size, progress or silent, store)
        clean = evaluate_clean(judge)
        original.check(original.place(x[:2]), original.place(y[:2]))
        audited = original
        if random_outputs(original, original.place(x[:batch_size])):
            if claim is None:  # what a user who attacks it once would read
                single = dataclasses.replace(judge, store=None)
                attack = PGD(40, threat.epsilon / 10)
                claim = single.run(attack, "pgd-once", clean.robust).robust_accuracy
            audited = AttackedModel(Expected(model, BUDGETS[budget].expectation))
        with audited:
            judge = dataclasses.replace(judge, model=audited)
            if audited is not original:
                audited.check(audited.place(x[:2]), audited.place(y[:2]))
                clean = evaluate_clean(judge)
            case = Case(
                judge, clean.robust, BUDGETS[budget], train_loss, train_data, dict(others),
                store.folder if store else None,
            )  # fmt: skip
            case.notes["original"] = original
            outcomes = _run_checks(case, on_check)
    if claim is None:
        claim = case.accuracy("pgd")
    robust = case.standing()
    upper = wilson(int(robust.sum()), case.n)[1]
    verdict: Verdict = judge_claim(claim, share(robust), upper, _adequate(case, outcomes))
    return Audit(
        verdict.word,
        budget,
        verdict.reasons,
        claim,
        source,
        robust,
        case.clean,
        threat,
        seed,
        outcomes,
        case.attempts,
        time.perf_counter() - begun,
    )


def _run_checks(case: Case, on_check: OnCheck | None) -> dict[str, tuple[Check, Outcome, float]]:
    outcomes: dict[str, tuple[Check, Outcome, float]] = {}
    for number, check in enumerate(CHECKS):
        begun = time.perf_counter()
        if on_check is not None:
            on_check(check.title, number, len(CHECKS))
        if check.name == "adaptive" and not needed(case, {k: v[1] for k, v in outcomes.items()}):
            outcome = skipped()
        else:
            outcome = check.run(case)
        outcomes[check.name] = check, outcome, time.perf_counter() - begun
    return outcomes


def _adequate(
    case: Case, outcomes: dict[str, tuple[Check, Outcome, float]]
) -> dict[str, tuple[bool, str]]:
    """What must hold for attacks that failed to mean anything."""
    notes = case.notes
    alike = notes["deterministic"] and notes["independent"] and notes["honest"]
    direct = notes["gradients"]
    best = max(direct, notes["margin_gradients"], notes.get("restored", 0.0))
    if direct >= GRADIENT_SHARE:
        slopes = f"{100 * direct:.1f} % of the samples have a gradient to follow"
    elif best >= GRADIENT_SHARE:
        slopes = f"gradients are missing, but an adaptive attack has them on {100 * best:.1f} %"
    else:
        slopes = f"only {100 * best:.1f} % of the samples have a gradient that any attack can use"
    black, p = gained(case)
    return {
        "outputs": (alike, outcomes["outputs"][1].explanation),
        "gradients": (best >= GRADIENT_SHARE, slopes),
        "unbounded": (notes["unbounded"], outcomes["unbounded"][1].explanation),
        "black-box": (
            not black,
            "attacks without gradients gain significantly on those with "
            f"(McNemar's p = {p:.1g}), so gradients mislead"
            if black
            else "attacks without gradients gain nothing significant on those with",
        ),
    }


def _check_arguments(
    x: Tensor,
    y: Tensor,
    threat: Threat,
    claim: float | None,
    train_data: tuple[Tensor, Tensor] | None,
    budget: str,
) -> None:
    if budget not in BUDGETS:
        raise UserError(f"budget is {budget!r}; choose one of {', '.join(BUDGETS)}")
    if claim is not None and not 0 <= claim <= 1:
        raise UserError(f"claim is {claim:g}; give a fraction in [0, 1], not percent")
    if len(x) == 0 or len(x) != len(y):
        raise UserError(f"{len(x)} inputs and {len(y)} labels; give at least one of each, as many")
    threat.check_inputs(x)
    if train_data is not None:
        images, labels = train_data
        if len(images) != len(labels) or images.shape[1:] != x.shape[1:]:
            raise UserError(
                f"train_data has images {tuple(images.shape)} and {len(labels)} labels for inputs "
                f"{tuple(x.shape)}; give as many of both, of the same shape"
            )

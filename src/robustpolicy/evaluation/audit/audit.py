"""The audit: is this robustness real?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import PGD, AttackedModel, AttackLoss, NoGradientError, Threat
from robustpolicy.attacks.losses import get_attack_loss
from robustpolicy.evaluation.audit.adaptive import Expected
from robustpolicy.evaluation.audit.adequacy import adequacy
from robustpolicy.evaluation.audit.arguments import check_arguments, check_others
from robustpolicy.evaluation.audit.case import BUDGETS, Case, beside, share
from robustpolicy.evaluation.audit.checks import CHECKS, Check
from robustpolicy.evaluation.audit.checks.adaptive import needed, skipped
from robustpolicy.evaluation.audit.outcome import Attempt, Outcome
from robustpolicy.evaluation.audit.thresholds import MARGIN
from robustpolicy.evaluation.audit.verdict import Verdict, judge_claim
from robustpolicy.evaluation.evaluate import evaluate_clean
from robustpolicy.evaluation.flags import random_outputs
from robustpolicy.evaluation.intervals import wilson
from robustpolicy.evaluation.judge import Judge, Progress, silent
from robustpolicy.evaluation.store import Store, digest, model_digest
from robustpolicy.randomness import derive_seed
from robustpolicy.version import __version__

#: Passes that must agree for outputs to count as deterministic, and passes of the model in
#: expectation that stand for one where an example is judged.
RANDOM_PASSES, REFEREE_PASSES = 5, 10
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
    claim = check_arguments(x, y, threat, claim, train_data, budget, batch_size, seed, indices)
    if train_loss is not None:
        get_attack_loss(train_loss)
    if isinstance(surrogates, nn.Module):
        surrogates = (surrogates,)
    others = surrogates if isinstance(surrogates, Mapping) else {
        f"surrogate-{number + 1}": one for number, one in enumerate(surrogates)
    }  # fmt: skip
    if indices is None:
        indices = torch.arange(len(x))
    store, identity = None, None
    if state is not None:
        identity = {
            "audit": budget,
            "version": __version__,
            "model": model_digest(model),
            "data": digest(x, y, indices, *(train_data or ())),
            "surrogates": {name: model_digest(one) for name, one in others.items()},
            "train_loss": _name_of(train_loss),
            "threat": dataclasses.asdict(threat),
            "seed": seed,
            "batch_size": batch_size,
            "indices": indices.tolist(),
            "about": about or {},
        }
    # Outputs can be random: the same audit twice must still find the same.
    with torch.random.fork_rng(), AttackedModel(model) as original:
        torch.manual_seed(derive_seed(seed, "audit"))
        source = "PGD-40 with cross-entropy" if claim is None else "given"
        judge = Judge(original, x, y, threat, seed, indices, batch_size, progress or silent)
        judge.cautious = True
        clean = evaluate_clean(judge)
        original.check(original.place(x[:1]), original.place(y[:1]))
        check_others(original, x, y, others, train_data, train_loss)
        probes = original.place(x[:batch_size])
        draws = torch.Generator().manual_seed(seed)
        probes = torch.cat([probes, beside(threat, probes, 1.0, draws)])
        random = random_outputs(original, probes, passes=RANDOM_PASSES)
        if identity is not None:
            # Weights do not tell wrappers apart; what they answer does.
            identity["answers"] = None if random else _answers(original, probes[:64])
            identity["random"] = random
            store = Store(state, identity)  # type: ignore[arg-type]
        audited = original
        if random:
            if claim is None:  # what a user who attacks it once would read
                claim = _attacked_once(judge, clean.robust)
            audited = AttackedModel(Expected(model, BUDGETS[budget].expectation))
            many = REFEREE_PASSES * BUDGETS[budget].expectation
            judge.referee = AttackedModel(Expected(model, many))
        with audited, judge.referee or nullcontext():
            judge = dataclasses.replace(judge, model=audited, store=store)
            if random:
                audited.check(audited.place(x[:1]), audited.place(y[:1]))
                clean = evaluate_clean(judge)
            case = Case(
                judge, clean.robust, BUDGETS[budget], train_loss, train_data, dict(others),
                store.folder if store else None,
            )  # fmt: skip
            case.notes["original"] = original
            case.notes["random"] = random
            outcomes = _run_checks(case, on_check)
    if claim is None:
        claim = case.accuracy("pgd")
    robust = case.standing()
    upper = wilson(int(robust.sum()), case.n)[1]
    adequate = adequacy(case, claim, {k: v[1] for k, v in outcomes.items()})
    verdict: Verdict = judge_claim(claim, share(robust), upper, adequate)
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
        torch.manual_seed(derive_seed(case.judge.seed, "check", check.name))
        if check.name == "adaptive" and not needed({k: v[1] for k, v in outcomes.items()}):
            outcome = skipped()
        elif check.name == "fgsm":  # the claim: without it there is nothing to judge
            outcome = check.run(case)
        else:
            outcome = _run(check, case)
        outcomes[check.name] = check, outcome, time.perf_counter() - begun
    return outcomes


def _run(check: Check, case: Case) -> Outcome:
    """A check that cannot run explains so; hours of the others must not be lost to it."""
    try:
        return check.run(case)
    except Exception as error:  # the user's code can raise anything
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        return Outcome(None, {}, "", f"could not run: {said}")


def _attacked_once(judge: Judge, on: Tensor) -> float:
    """Robust accuracy under PGD-40 of a model with random outputs, taken as it comes."""
    try:
        attack = PGD(40, judge.threat.epsilon / 10)
        return judge.run(attack, "pgd-once", on).robust_accuracy
    except NoGradientError:
        return share(on)


def _answers(model: AttackedModel, x: Tensor) -> str:
    """Digest of what a model answers, coarse enough to be the same on another machine."""
    logits = model.logits(x).cpu().double()
    scale = logits.norm(dim=1).clamp(min=1e-10).log2().mean()
    return digest(logits.argmax(1), (4 * scale).round())


def _name_of(loss: Any) -> str:
    """A loss by a name that is the same in the next process."""
    if loss is None or isinstance(loss, str) or dataclasses.is_dataclass(loss):
        return str(loss)
    return f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss))}"

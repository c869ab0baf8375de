"""Examples from other models must not fool where white-box attacks fail."""

from __future__ import annotations

from torch import nn

from robustpolicy.attacks import PGD, Transfer
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.outcome import WHITE, Outcome, bars
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.surrogates import distil, train_twin
from robustpolicy.evaluation.audit.thresholds import GAIN, SIGNIFICANCE


def run(case: Case) -> Outcome:
    """Given surrogates, a twin of the training data, and one distilled from the answers."""
    before = case.standing(WHITE)
    surrogates, said = _surrogates(case)
    gains = {}
    for number, (label, surrogate) in enumerate(surrogates.items()):
        for loss in ("ce", "margin"):
            name = f"transfer-{number + 1}-{loss}"  # part of a file's name, which a path is not
            attack = PGD(40, case.threat.epsilon / 10, loss=loss, last=True)
            transfer = Transfer((surrogate.to(case.judge.x.device),), attack, (label,))
            case.attack(name, transfer, "transfer", case.standing())
            gains[f"{label}, {loss}"] = case.gain(name, before)
    significant, p = gained(case, "transfer")
    return Outcome(
        not significant,
        {"gain": gains, "p_value": p, "surrogates": said},
        f"what they gain on white-box attacks is under {100 * GAIN:.0f} point or not significant "
        f"(McNemar, p < {SIGNIFICANCE:g})",
        ("transferred examples find what gradient attacks missed: gradients mislead"
         if significant else "transferred examples find nothing more")
        + f" (crafted on: {'; '.join(said)})",
        (bars("Gain on white-box attacks", "share of samples", gains),),
    )  # fmt: skip


def _surrogates(case: Case) -> tuple[dict[str, nn.Module], list[str]]:
    """Surrogates by label, and what was and was not used, in words."""
    found = {f"given: {label}": model for label, model in case.surrogates.items()}
    said = list(found) or ["given surrogates: not run, none was given"]
    steps, seed, folder = case.budget.surrogate_steps, case.judge.seed, case.folder
    if case.train_data is not None:
        keep = folder and folder / "surrogate-twin.safetensors"
        images, labels = case.train_data
        found["twin"] = train_twin(images, labels, case.classes, case.threat, steps, seed, keep)
        said.append(f"a twin trained with cross-entropy on {len(labels)} training samples")
    else:
        said.append("twin: not run, no training data was given")
    keep = folder and folder / "surrogate-distilled.safetensors"
    found["distilled"] = distil(case.model, case.judge.x, case.threat, steps, seed, keep)
    said.append("one distilled from the model's own answers around the samples")
    return found, said

"""``robustpolicy audit``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from robustpolicy.cli.parse import check_output, parse


@dataclass(frozen=True)
class Options:
    """Judge a claim of robust accuracy: REAL, MASKED or INCONCLUSIVE, with the evidence.

    MASKED: what withstands every attack lies, with 95 % confidence, over 5 points below the claim.
    REAL: it does not, and the attacks were adequate. INCONCLUSIVE: otherwise.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder; MODULE:CALLABLE, importable from here, returning an nn.Module (this runs its
    code, with the number of classes if it takes that; needs --dataset); or a file of weights
    (needs --model)."""
    claim: float | None = None
    """Robust accuracy claimed, such as 0.49; what PGD-40 with cross-entropy leaves if not given."""
    norm: Literal["Linf", "L2"] = "Linf"
    """Norm of the ball."""
    epsilon: float | None = None
    """Radius of the ball, inputs in [0, 1]; the paper's for the data set if not given (Linf alone:
    digits and mnist 0.1, cifar10 0.04). Needed for a data set of your own."""
    budget: Literal["quick", "standard", "full"] = "standard"
    """How hard to try: quick takes minutes on LeNet5; standard adds AutoAttack; full adds seeds."""
    samples: int = 1000
    """Test samples, drawn at random with the seed."""
    indices: str | None = None
    """Test samples A:B instead, such as 0:200."""
    surrogate: tuple[str, ...] = ()
    """Run folders of other models, whose examples are tried too."""
    train_loss: str | None = None
    """Loss that the model was trained with, for an attack to raise: cross-entropy, two-stage, pc,
    gce, or an attack loss (ce, margin, dlr, rescaled-ce); a run knows its own."""
    seed: int = 0
    """Seed of the draw and of the attacks."""
    dataset: str | None = None
    """Data set: digits, mnist or cifar10; or your own: a folder of class folders of images, a .npz
    file, or MODULE:CALLABLE (its code is run). A run knows its own."""
    image_size: int = 0
    """Scale the images of a folder to squares of this side; 0 takes them as they are. A run knows
    its own."""
    model: str | None = None
    """Model of a file of weights: lenet5, small-cnn or vit-mnist; vgg13, vgg13-narrow, resnet18,
    small-cnn-cifar10 or vit-cifar10; or MODULE:CALLABLE."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""
    threads: int | None = None
    """CPU threads; as many as torch chooses if not given."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""
    batch_size: int = 500
    """Samples a batch."""
    state: Path | None = None
    """Keep each batch of each attack in this folder; the same command resumes from it."""
    json: Path | None = None
    """Write the result to this file, per-sample flags included."""
    html: Path | None = None
    """Write the result, with its figures, as one page."""
    quiet: bool = False
    """No progress."""


def run(arguments: Sequence[str]) -> None:
    """Audit a target; print the verdict, the checks and the reasons."""
    options = parse(Options, arguments, "audit")

    from robustpolicy.cli.threat import threat_of
    from robustpolicy.data import to_float
    from robustpolicy.errors import UserError
    from robustpolicy.evaluation import choose_samples, load_target
    from robustpolicy.evaluation.audit import audit
    from robustpolicy.evaluation.layout import arrange
    from robustpolicy.report.progress import AuditProgress
    from robustpolicy.report.tables import audit_table
    from robustpolicy.training.environment import (
        describe_environment,
        public_environment,
        resolve_device,
        set_threads,
    )
    from robustpolicy.training.files import write_json

    check_output("--json", options.json)
    check_output("--html", options.html)
    if options.claim is not None and not 0 <= options.claim <= 1:
        raise UserError(f"--claim is {options.claim:g}; give a fraction in [0, 1], not percent")
    set_threads(options.threads)
    device = resolve_device(options.device)
    words = (options.target, options.model, options.dataset, options.image_size)
    target = load_target(*words)
    threat = threat_of(options.norm, options.epsilon, target.dataset)
    dataset = target.load(options.data_dir)
    total = len(dataset.test_labels)
    count = None if options.indices else min(options.samples, total)
    chosen = choose_samples(total, count, options.indices, options.seed)
    surrogates = {name: load_target(name).model.to(device) for name in options.surrogate}
    model = target.model.to(device)
    with AuditProgress(quiet=options.quiet) as progress:
        found = audit(
            model,
            arrange(model, to_float(dataset.test_images[chosen])),
            dataset.test_labels[chosen],
            threat,
            claim=options.claim,
            train_data=(dataset.train_images, dataset.train_labels),
            surrogates=surrogates,
            train_loss=_train_loss(options.train_loss, target.run),
            budget=options.budget,
            seed=options.seed,
            indices=chosen,
            batch_size=options.batch_size,
            progress=progress,
            on_check=progress.on_check,
            state=options.state,
            about={"target": list(words)},
        )
    result: dict[str, Any] = {
        "target": options.target,
        "dataset": target.dataset,
        **found.to_json(),
        "environment": public_environment(describe_environment(device)),
    }
    audit_table(result).print()  # first: a full disk must not lose it
    print(found.summary)
    for reason in found.reasons:
        print(f"  {reason}")
    sys.stdout.flush()
    if options.json is not None:
        write_json(options.json, result)
    if options.html is not None:
        from robustpolicy.report.audit_page import write_audit_page

        write_audit_page(result, options.html)


def _train_loss(name: str | None, run: Any) -> Any:
    """The loss of a name, or of the run; None if neither says it."""
    from robustpolicy.attacks import ATTACK_LOSSES
    from robustpolicy.errors import UserError
    from robustpolicy.training.loss import TrainingLoss
    from robustpolicy.training.recipe import LOSSES

    if name is None:
        return None if run is None else TrainingLoss(run.recipe.loss)
    known = {loss.name: loss for loss in LOSSES}
    if name in known:
        return TrainingLoss(known[name]())
    if name not in ATTACK_LOSSES:
        raise UserError(
            f"--train-loss is {name!r}; choose one of {', '.join([*known, *ATTACK_LOSSES])}"
        )
    return name

"""``robustpolicy evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from robustpolicy.cli.parse import parse


@dataclass(frozen=True)
class Options:
    """Measure the robust accuracy of a model.

    A sample counts as robust if it is classified correctly as it is and as the attack left it.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder; MODULE:CALLABLE, importable from here, returning an nn.Module (this runs its
    code; needs --dataset); or a file of weights (needs --model)."""
    attacks: tuple[str, ...] = ("clean", "fgsm", "pgd")
    """Some of clean, fgsm, pgd."""
    epsilon: float | None = None
    """Radius of the l-infinity ball, inputs in [0, 1]; the paper's for the data set if not given
    (digits and mnist 0.1, cifar10 0.04)."""
    steps: int = 40
    """Steps of PGD."""
    step_size: float = 0.01
    """Step of PGD."""
    restarts: int = 1
    """Random restarts of PGD."""
    random_start: bool = True
    """Begin PGD at a random point of the ball."""
    loss: str = "ce"
    """What the attacks raise: ce or margin."""
    samples: int | None = None
    """Test samples, drawn at random with the seed; all if not given."""
    indices: str | None = None
    """Test samples A:B instead, such as 0:200."""
    seed: int = 0
    """Seed of the draw and of the attacks."""
    dataset: str | None = None
    """Data set: digits, mnist or cifar10; a run knows its own."""
    model: str | None = None
    """Model of a file of weights: lenet5, small-cnn, vgg13 or resnet18."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to evaluate."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""
    json: Path | None = None
    """Write the result to this file, per-sample flags included."""
    quiet: bool = False
    """No progress."""


def run(arguments: Sequence[str]) -> None:
    """Evaluate a target and print a table."""
    options = parse(Options, arguments, "evaluate")

    from functools import partial

    from robustpolicy.attacks import FGSM, PGD, Threat
    from robustpolicy.attacks.losses import get_attack_loss
    from robustpolicy.data import load_dataset
    from robustpolicy.errors import UserError
    from robustpolicy.evaluation import Plan, evaluate_run, load_target
    from robustpolicy.evaluation.plan import EPSILON
    from robustpolicy.report.progress import EvaluationProgress
    from robustpolicy.report.tables import evaluation_table
    from robustpolicy.training.environment import resolve_device
    from robustpolicy.training.files import write_json

    get_attack_loss(options.loss)
    known = {
        "clean": "clean",
        "fgsm": FGSM(options.loss),
        "pgd": PGD(
            options.steps,
            options.step_size,
            options.random_start,
            options.restarts,
            options.loss,
        ),
    }
    unknown = [name for name in options.attacks if name not in known]
    if unknown or not options.attacks:
        given = unknown[0] if unknown else "nothing"
        raise UserError(f"--attacks has {given!r}; choose some of {', '.join(known)}")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise UserError(f"--json {options.json}: that folder does not exist; make it first")
    if options.json is not None and options.json.is_dir():
        raise UserError(f"--json {options.json} is a folder; give the name of a file")
    device = resolve_device(options.device)
    target = load_target(options.target, options.model, options.dataset)
    epsilon = EPSILON[target.dataset] if options.epsilon is None else options.epsilon
    plan = Plan(
        Threat(epsilon),
        tuple(known[name] for name in dict.fromkeys(options.attacks)),
        options.samples,
        options.indices,
        options.seed,
    )
    load = partial(load_dataset, target.dataset, options.data_dir)
    with EvaluationProgress(quiet=options.quiet) as progress:
        if target.run is not None:
            result = evaluate_run(target.run, plan, load, device, progress)
        else:
            result = plan.run(target.model.to(device), load(), progress)
    evaluation_table(options.target, result).print()  # first: a full disk must not lose it
    if options.json is not None:
        write_json(options.json, {"target": options.target, **result})

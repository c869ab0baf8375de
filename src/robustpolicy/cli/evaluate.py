"""``robustpolicy evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from robustpolicy.cli.parse import parse


@dataclass(frozen=True)
class Options:
    """Measure the robust accuracy of a model.

    A sample counts as robust if it is classified correctly as it is and as the attack left it.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder; MODULE:CALLABLE, importable from here, returning an nn.Module (this runs its
    code, with the number of classes if it takes that; needs --dataset); or a file of weights
    (needs --model)."""
    attacks: tuple[str, ...] = ("clean", "fgsm", "pgd")
    """Some of clean, fgsm, pgd, apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square, spsa, autoattack,
    transfer (needs --surrogate)."""
    version: Literal["standard", "plus", "rand"] = "standard"
    """Version of AutoAttack."""
    engine: Literal["ours", "official"] = "ours"
    """Whose AutoAttack: ours, or the official package (extra verify; one process, no resuming
    within it)."""
    surrogate: tuple[str, ...] = ()
    """Run folders on which the transfer attack crafts its examples."""
    norm: Literal["Linf", "L2"] = "Linf"
    """Norm of the ball."""
    epsilon: float | None = None
    """Radius of the ball, inputs in [0, 1]; the paper's for the data set if not given (Linf alone:
    digits and mnist 0.1, cifar10 0.04). Needed for a data set of your own."""
    steps: int = 40
    """Steps of PGD."""
    step_size: float = 0.01
    """Step of PGD."""
    restarts: int = 1
    """Random restarts of PGD."""
    random_start: bool = True
    """Begin PGD at a random point of the ball."""
    loss: str = "ce"
    """What FGSM and PGD raise: ce, margin, dlr, rescaled-ce, or training (the loss that the run
    was trained with)."""
    samples: int | None = None
    """Test samples, drawn at random with the seed; all if not given."""
    indices: str | None = None
    """Test samples A:B instead, such as 0:200."""
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
    """Where to evaluate."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""
    batch_size: int = 500
    """Samples a batch."""
    workers: int = 1
    """Processes that share the samples, one thread each; on GPUs, one each."""
    state: Path | None = None
    """Keep each batch in this folder as soon as it is done; the same command resumes from it."""
    json: Path | None = None
    """Write the result to this file, per-sample flags included."""
    quiet: bool = False
    """No progress."""


def run(arguments: Sequence[str]) -> None:
    """Evaluate a target and print a table."""
    options = parse(Options, arguments, "evaluate")

    from robustpolicy.errors import UserError
    from robustpolicy.evaluation import evaluate_run, load_target
    from robustpolicy.evaluation.workers import evaluate_in_workers
    from robustpolicy.report.progress import EvaluationProgress
    from robustpolicy.report.tables import evaluation_table
    from robustpolicy.training.environment import resolve_device
    from robustpolicy.training.files import write_json

    if options.workers < 1:
        raise UserError(f"--workers is {options.workers}; give at least 1")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise UserError(f"--json {options.json}: that folder does not exist; make it first")
    if options.json is not None and options.json.is_dir():
        raise UserError(f"--json {options.json} is a folder; give the name of a file")
    device = resolve_device(options.device)
    words = (options.target, options.model, options.dataset, options.image_size)
    target = load_target(*words)
    attacks = _attacks(options, target.run)
    plan = _plan(options, attacks, target.dataset)
    about = {"target": list(words)}

    def load() -> Any:
        return target.load(options.data_dir)

    with EvaluationProgress(quiet=options.quiet) as progress:
        if options.workers > 1:
            dataset = load()
            chosen = plan.choose(dataset)
            found = evaluate_in_workers(
                words,
                plan,
                chosen,
                workers=options.workers,
                device=device,
                data_dirs=options.data_dir,
                progress=progress,
                state=options.state,
                about=about,
            )
            result = plan.report(found, dataset, chosen, device)
        # A kept result knows a surrogate by its path alone, which may hold other weights by now.
        elif target.run is not None and options.state is None and not options.surrogate:
            result = evaluate_run(target.run, plan, load, device, progress, target.dataset)
        else:
            model = target.model.to(device)
            result = plan.run(model, load(), progress, options.state, about)
    evaluation_table(options.target, result).print()  # first: a full disk must not lose it
    for line in result.get("warnings", []):
        print(f"warning: {line}")
    if options.json is not None:
        write_json(options.json, {"target": options.target, **result})


def _attacks(options: Options, run: Any) -> tuple[Any, ...]:
    """Attacks with the configuration that the options give, on the model of a run or None."""
    from robustpolicy.attacks import ATTACKS, FGSM, PGD, AutoAttack, OfficialAutoAttack
    from robustpolicy.cli.attacks import choose_attacks
    from robustpolicy.errors import UserError

    loss: Any = options.loss
    if loss == "training":
        from robustpolicy.training.loss import TrainingLoss

        if run is None:
            raise UserError(
                f"--loss training needs a run folder, which knows its loss; {options.target} is not"
            )
        loss = TrainingLoss(run.recipe.loss)
    ours = options.engine == "ours"
    known: dict[str, Any] = {
        "clean": "clean",
        **ATTACKS,
        "fgsm": FGSM(loss),
        "pgd": PGD(
            options.steps,
            options.step_size,
            options.random_start,
            options.restarts,
            loss,
        ),
        "autoattack": (
            AutoAttack(options.version) if ours else OfficialAutoAttack(options.version)
        ),
    }
    if "transfer" in options.attacks:
        known["transfer"] = _transfer(options)
    return choose_attacks(options.attacks, known)


def _transfer(options: Options) -> Any:
    from robustpolicy.attacks import Transfer
    from robustpolicy.errors import UserError
    from robustpolicy.evaluation import load_target
    from robustpolicy.training.environment import resolve_device

    if not options.surrogate:
        raise UserError("the transfer attack needs --surrogate RUN, one or several")
    device = resolve_device(options.device)
    models = tuple(load_target(run).model.to(device) for run in options.surrogate)
    return Transfer(models, labels=options.surrogate)


def _plan(options: Options, attacks: tuple[Any, ...], dataset: str) -> Any:
    from robustpolicy.cli.threat import threat_of
    from robustpolicy.evaluation import Plan

    threat = threat_of(options.norm, options.epsilon, dataset)
    return Plan(threat, attacks, options.samples, options.indices, options.seed, options.batch_size)

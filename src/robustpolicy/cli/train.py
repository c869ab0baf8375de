"""``robustpolicy train``."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robustpolicy.cli.parse import parse
from robustpolicy.errors import UserError
from robustpolicy.training import RECIPES, Recipe, get_recipe, load_recipe


@dataclass(frozen=True)
class Options:
    """What ``train`` takes besides the recipe's name."""

    recipe: Recipe = field(default_factory=lambda: RECIPES["mnist-policy"])
    output: Path | None = None
    """Run folder; runs/RECIPE-ID if not given. The same command resumes."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward and backward passes; weights and attacks stay in float32. auto: bfloat16 with
    CUDA."""
    capture: Literal["auto", "yes", "no"] = "auto"
    """Replay steps as a CUDA graph. auto: with CUDA."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""
    threads: int | None = None
    """CPU threads; as many as torch chooses if not given. Small networks are fastest with few."""
    quiet: bool = False
    """No progress."""


def run(arguments: Sequence[str]) -> None:
    """Train, or resume."""
    name, base, rest = _base(list(arguments))
    listed = ", ".join(RECIPES)
    if base is None and (later := [word for word in rest if word in RECIPES]):
        raise UserError(f"{later[0]} stands after an option; the recipe comes first")
    options = parse(
        Options,
        rest,
        f"train {name}",
        f"Train a recipe, or resume it.\n\nRECIPE is one of {listed}; or give --from "
        "RUN/recipe.json. Every field of the recipe is an option; the defaults shown are those of "
        f"{name if base else 'mnist-policy'}. With other --epochs and no --drops, the drops scale "
        "in proportion.",
        Options(recipe=base or RECIPES["mnist-policy"]),
    )
    if base is None:
        raise UserError(f"no recipe given; choose one of {listed}, or give --from RUN/recipe.json")
    _train(name, options)


def _base(arguments: list[str]) -> tuple[str, Recipe | None, list[str]]:
    """Take the recipe's name, or --from, off the arguments, and apply --epochs to its drops."""
    name, base = "RECIPE", None
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        base = get_recipe(name)
    for position, argument in enumerate(arguments):
        if argument == "--from" or argument.startswith("--from="):
            if base is not None:
                raise UserError(f"both the recipe {name} and --from are given; use one of them")
            _, _, path = argument.partition("=")
            del arguments[position]
            if not path:
                if position >= len(arguments):
                    raise UserError("--from needs a file, such as --from RUN/recipe.json")
                path = arguments.pop(position)
            base = load_recipe(path)
            name = re.sub(r"[^\w.]+", "-", f"{base.dataset}-{base.loss.name}").strip("-.")
            break
    return name, _scaled(base, arguments), arguments


def _scaled(base: Recipe | None, arguments: list[str]) -> Recipe | None:
    if base is None:
        return None
    flags = [argument.partition("=")[0] for argument in arguments]
    if "--epochs" not in flags:
        return base
    if "--drops" in flags:  # given below; the recipe's own may not fit the new epochs
        return dataclasses.replace(base, optimizer=dataclasses.replace(base.optimizer, drops=()))
    place = flags.index("--epochs")
    _, _, value = arguments[place].partition("=")
    text = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
    return base.with_epochs(int(text)) if text.isdigit() and int(text) > 0 else base


def _train(name: str, options: Options) -> None:
    from robustpolicy.data import is_own
    from robustpolicy.report.progress import TrainingMonitor
    from robustpolicy.training import train
    from robustpolicy.training.environment import set_threads

    set_threads(options.threads)
    output = options.output or Path("runs") / f"{name}-{options.recipe.id}"
    first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun, it speaks for all
    with TrainingMonitor(quiet=options.quiet or not first) as monitor:
        done = train(
            options.recipe,
            output,
            data_dirs=options.data_dir,
            device=options.device,
            precision=options.precision,
            capture={"auto": None, "yes": True, "no": False}[options.capture],
            monitor=monitor,
        )
    if not first:
        return
    history = done.history()
    last = history[-1]
    split = "test" if options.recipe.protocol == "paper" else "validation"
    print(
        f"{done.path}: {len(history)} epoch{'s' if len(history) > 1 else ''}, {split} accuracy "
        f"{100 * last['watched_accuracy']:.2f} %"
    )
    if last.get("stage") == 1:
        loss = options.recipe.loss
        best = 100 * max(record["watched_accuracy"] for record in history)
        threshold = 100 * getattr(loss, "threshold", 0)
        print(
            f"the second stage never began: the best accuracy was {best:.2f} %, it begins above "
            f"{threshold:g} %; train longer"
        )
    folders = " ".join(["", "--data-dir", *map(str, options.data_dir)]) if options.data_dir else ""
    epsilon = " --epsilon 0.031373" if is_own(options.recipe.dataset) else ""
    print(f"next: robustpolicy evaluate {done.path}{epsilon}{folders}")
    sys.stdout.flush()

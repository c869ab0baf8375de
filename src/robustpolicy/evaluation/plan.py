"""What is evaluated, as data: threat model, attacks, samples, seed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import FGSM, PGD, Threat
from robustpolicy.data import Dataset, describe, is_own, to_float
from robustpolicy.errors import UserError
from robustpolicy.evaluation.evaluate import evaluate
from robustpolicy.evaluation.judge import Progress
from robustpolicy.evaluation.layout import arrange
from robustpolicy.evaluation.result import Evaluation
from robustpolicy.evaluation.samples import choose_samples
from robustpolicy.training.environment import describe_environment, public_environment
from robustpolicy.training.files import make_folder, write_json
from robustpolicy.training.run import Run

#: The paper's epsilon of each data set. (Under Table 3 it prints .04 for MNIST too; Table 2 and
#: the numbers themselves say .1.)
EPSILON = {"digits": 0.1, "mnist": 0.1, "cifar10": 0.04}


@dataclass(frozen=True)
class Plan:
    """One evaluation of a model on the test split.

    Attributes:
        threat: ball and range.
        attacks: ``"clean"`` and attacks with their configuration.
        samples: how many, drawn at random; None takes all.
        indices: ``"A:B"`` instead.
        seed: seed of the draw and of the attacks' randomness.
        batch_size: samples a batch.
    """

    threat: Threat
    attacks: tuple[Any, ...]
    samples: int | None = None
    indices: str | None = None
    seed: int = 0
    batch_size: int = 500

    def run(
        self,
        model: nn.Module,
        dataset: Dataset,
        progress: Progress | None = None,
        state: Path | None = None,
        about: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model, on its own device, on the samples of this plan; returns plain data.

        Args:
            model: the model.
            dataset: its test split is used.
            progress: called after each batch.
            state: folder to keep batches in and resume from.
            about: kept beside the state.
        """
        chosen = self.choose(dataset)
        result = self.evaluate(model, dataset, chosen, progress, state, about)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return self.report(result, dataset, chosen, device)

    def choose(self, dataset: Dataset) -> Tensor:
        """Indices of the samples in the test split."""
        return choose_samples(len(dataset.test_labels), self.samples, self.indices, self.seed)

    def evaluate(
        self,
        model: nn.Module,
        dataset: Dataset,
        chosen: Tensor,
        progress: Progress | None = None,
        state: Path | None = None,
        about: dict[str, Any] | None = None,
    ) -> Evaluation:
        """Evaluate a model on these samples of the test split."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        x = to_float(dataset.test_images[chosen]).to(device)
        return evaluate(
            model,
            arrange(model, x),
            dataset.test_labels[chosen].to(device),
            self.threat,
            self.attacks,
            seed=self.seed,
            indices=chosen,
            batch_size=self.batch_size,
            progress=progress,
            state=state,
            about=about,
        )

    def report(
        self, result: Evaluation, dataset: Dataset, chosen: Tensor, device: torch.device
    ) -> dict[str, Any]:
        """An evaluation as plain data, with what it was made on."""
        labels = dataset.test_labels[chosen]
        clean = result.attacks.get("clean")
        which = self.indices or (f"{self.samples} drawn at random" if self.samples else "all")
        return {
            "dataset": dataset.source.name,
            "split": "test",
            "samples": which,
            **result.to_json(),
            # A class that was never learnt hides in an average.
            "clean_accuracy_by_class": clean and _by_class(clean.robust, labels),
            "environment": public_environment(describe_environment(device)),
        }

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: a hash of everything in the plan."""
        attacks = [a if isinstance(a, str) else (a.name, repr(a)) for a in self.attacks]
        data = [dataclasses.asdict(self.threat), attacks, self.samples, self.indices, self.seed]
        return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]


def _by_class(correct: Tensor, labels: Tensor) -> list[float | None]:
    """Share of correct samples of each class; None for a class without samples."""
    flags = [correct[labels == k].double() for k in range(int(labels.max()) + 1)]
    return [round(float(f.mean()), 4) if len(f) else None for f in flags]


def paper_epsilon(dataset: str) -> float:
    """The paper's epsilon of a data set.

    Raises:
        UserError: a data set that the paper does not have.
    """
    if dataset not in EPSILON:
        raise UserError(
            f"the paper has no epsilon for {dataset}; give a radius with --epsilon (inputs lie in "
            "[0, 1]), such as 0.031373, which is 8/255"
        )
    return EPSILON[dataset]


def paper_plan(dataset: str) -> Plan:
    """The paper's evaluation: clean, FGSM, PGD with 40 steps of .01, all test samples."""
    return Plan(Threat(paper_epsilon(dataset)), ("clean", FGSM(), PGD(steps=40, step_size=0.01)))


def evaluate_run(
    run: Run,
    plan: Plan,
    load: Callable[[], Dataset],
    device: torch.device,
    progress: Progress | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """Evaluate a finished run, or read what an equal evaluation has left in its folder.

    Args:
        run: a finished run.
        plan: what to evaluate.
        load: gives the data set; called only if there is something to do, or to be compared.
        device: where to evaluate.
        progress: called after each batch.
        dataset: name of the data set, if it is not the run's.
    """
    name = plan.id
    if is_own(dataset or run.recipe.dataset):  # its name alone does not say what is in it
        data = load()
        name += "-" + describe(data)["sha256"][:12]

        def load() -> Dataset:
            return data

    path = run.path / "evaluation" / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        pass  # none yet, or a damaged one
    result = plan.run(run.load_model().to(device), load(), progress)
    try:
        make_folder(path.parent)
        write_json(path, result)
    except UserError as error:  # the numbers are worth more than their copy
        warnings.warn(f"the result is not kept in the run folder: {error}", stacklevel=2)
    return result

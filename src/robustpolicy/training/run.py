"""A run: the folder in which one training lives, and out of which it resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robustpolicy.data import (
    Dataset,
    Source,
    describe,
    described_source,
    difference,
    get_source,
    is_own,
)
from robustpolicy.errors import UserError
from robustpolicy.models import ActorCritic, MaxMahalanobis, Normalize, build_model
from robustpolicy.training.differences import differences
from robustpolicy.training.files import make_folder, write_atomically, write_json, write_text
from robustpolicy.training.recipe import MMC, Recipe, TwoStage, load_recipe


class Run:
    """A run folder: ``recipe.json``, ``environment.json``, ``history.jsonl``, ``checkpoint.pt``,
    ``best.safetensors`` (of the best epoch so far), and once it is done ``weights.safetensors`` (of
    the last epoch) and ``DONE``; with a data set of the user's own also ``dataset.json``, which
    says what it was.

    The checkpoint alone decides what a resumed run does; the other files are made from it.

    Attributes:
        path: the folder.
        recipe: what is trained there.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path = path
        self.recipe = recipe

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run.

        Raises:
            UserError: no such folder, or not a run.
        """
        path = Path(path)
        if not (path / "recipe.json").is_file():
            raise UserError(f"{path} is not a run folder: it has no recipe.json")
        return cls(path, load_recipe(path / "recipe.json"))

    @classmethod
    @contextmanager
    def claim(cls, path: str | Path, recipe: Recipe) -> Iterator[Run]:
        """Take a folder for this process and open the run of this recipe there, or begin it.

        The folder is looked at under its lock only, so two processes cannot both begin a run.

        Raises:
            UserError: the folder holds another run or other files, cannot be made or written, or
                another process trains in it.
        """
        path = Path(path)
        make_folder(path)
        strangers = _strangers(path)
        if strangers:
            raise UserError(
                f"{path} is not empty and not a run folder (it holds {strangers[0]}); choose "
                "another --output"
            )
        lock = FileLock(path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is training in {path}; wait for it, or choose another --output"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write in {path}: {error.strerror}; choose another --output"
            ) from None
        with lock:
            for left in path.glob(".*.tmp"):  # of a write that a kill cut off
                left.unlink(missing_ok=True)
            if not (path / "recipe.json").exists():
                write_json(path / "recipe.json", recipe.to_json())
            run = cls.open(path)
            if run.recipe != recipe:
                raise UserError(
                    f"{path} holds a different run ({_difference(run.recipe, recipe)}); choose "
                    "another --output, or delete that folder"
                )
            yield run

    @property
    def done(self) -> bool:
        """Whether training has ended and what it made is there."""
        made = ("DONE", "weights.safetensors", "history.jsonl", "environment.json")
        return self.weights.exists() and all((self.path / name).exists() for name in made)

    @property
    def weights(self) -> Path:
        """The weights that the run stands for: the last or the best, as its recipe says."""
        best = self.recipe.watch.keep == "best"
        return self.path / ("best.safetensors" if best else "weights.safetensors")

    def check_done(self) -> None:
        """Raise UserError if the run is not finished."""
        if not self.done:
            epochs = len(self.history())
            raise UserError(
                f"{self.path} is not finished ({epochs} of {self.recipe.epochs} epochs); go on "
                f"with `robustpolicy train --from {self.path}/recipe.json --output {self.path}`"
            )

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The state to go on from, or None before the first checkpoint.

        Raises:
            UserError: a checkpoint that cannot be read.
        """
        path = self.path / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise anything
            raise UserError(_unreadable(path, error)) from None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state and the history made from it.

        Raises:
            UserError: no space; the former checkpoint stays.
        """
        write_atomically(self.path / "checkpoint.pt", lambda to: torch.save(state, to))
        self.write_history(state["history"])

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write history.jsonl from the records of a checkpoint."""
        lines = [json.dumps(record) + "\n" for record in history]
        write_text(self.path / "history.jsonl", "".join(lines))

    def finish(self, model: nn.Module) -> None:
        """Write the last weights and mark the run as done."""
        self.save_weights("weights", model)
        write_text(self.path / "DONE", "")

    def save_weights(self, name: str, model: nn.Module) -> None:
        """Write a model's weights as ``name.safetensors``."""
        weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
        data = save(weights)
        write_atomically(self.path / f"{name}.safetensors", lambda to: to.write_bytes(data))  # type: ignore[arg-type]

    @property
    def source(self) -> Source:
        """Classes and statistics of the data set that it is trained on.

        Raises:
            UserError: a damaged dataset.json, or none and the data set is gone too.
        """
        described = self._dataset()
        return described_source(described) if described else get_source(self.recipe.dataset)

    def keep_dataset(self, dataset: Dataset) -> None:
        """Note what a data set of the user's own is, so that the run can do without it.

        Raises:
            UserError: the run was begun on other data.
        """
        if not is_own(dataset.source.name):
            return
        if self._dataset() is None:
            write_json(self.path / "dataset.json", describe(dataset))
        elif changed := self.dataset_change(dataset):
            raise UserError(
                f"{self.path} was begun on other data: {dataset.source.name} has changed "
                f"({changed}); bring the former data back, or choose another --output"
            )

    def dataset_change(self, dataset: Dataset) -> str | None:
        """In what a data set differs from the one of this run, in words; None if in nothing.

        Raises:
            UserError: a damaged dataset.json.
        """
        described = self._dataset()
        return None if described is None else difference(described, describe(dataset))

    def _dataset(self) -> dict[str, Any] | None:
        path = self.path / "dataset.json"
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text())
            described_source(found)
            return found
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it, and the train command makes it anew"
            ) from None

    def load_model(self, weights: str | None = None) -> nn.Module:
        """The trained model, on the CPU, in eval mode.

        Args:
            weights: ``"weights"`` (of the last epoch) or ``"best"``; those that the run stands for
                if None.

        Raises:
            UserError: the run is not finished, its weights do not fit, or a model of the user's
                own cannot be imported.
        """
        self.check_done()
        source = self.source
        try:
            model = build_recipe_model(self.recipe, source)
        except UserError as error:
            raise UserError(f"{self.path} needs its model {self.recipe.model}: {error}") from None
        load_weights(model, self.path / f"{weights}.safetensors" if weights else self.weights)
        return model.eval()

    def history(self) -> list[dict[str, Any]]:
        """One record an epoch.

        Raises:
            UserError: a damaged file.
        """
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except ValueError as error:
            raise UserError(
                f"{path} is damaged ({error}); delete it, and the train command makes it anew"
            ) from None

    def environment(self) -> dict[str, Any]:
        """Versions and hardware with which the run began; empty if that is not known."""
        try:
            found = json.loads((self.path / "environment.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def build_recipe_model(recipe: Recipe, source: Source | None = None) -> nn.Module:
    """The model of a recipe, with fresh weights from the global generator.

    Args:
        recipe: names the model and the data set.
        source: of the data set, if it is known; one of the user's own would be loaded for it.
    """
    source = source or get_source(recipe.dataset)
    classes, loss = len(source.classes), recipe.loss
    critic = isinstance(loss, TwoStage) and loss.baseline == "value"
    if isinstance(loss, MMC):
        head = MaxMahalanobis(classes, loss.dim, loss.scale)
        model: nn.Module = nn.Sequential(build_model(recipe.model, loss.dim), head)
    else:
        model = build_model(recipe.model, classes + critic)
    if recipe.normalize:
        model = nn.Sequential(Normalize(source.mean, source.std), model)
    return ActorCritic(model) if critic else model


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file into a model.

    Raises:
        UserError: no such file, not safetensors, or weights of another model.
    """
    try:
        weights: dict[str, Tensor] = load_file(path)
        model.load_state_dict(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise UserError(
            f"{path} does not fit this model: {detail[:200]}; give the model it was saved from"
        ) from None


def _unreadable(path: Path, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"{path} cannot be read ({reason[:150]}); delete it to start this run again from its "
        "first epoch"
    )


def _strangers(path: Path) -> list[str]:
    """Files of a folder that is not a run's."""
    if (path / "recipe.json").exists():
        return []
    return [p.name for p in path.iterdir() if p.name[0] != "." and p.name != "lock"]


def _difference(there: Recipe, given: Recipe) -> str:
    """The first few fields in which two recipes differ."""
    found = differences([there.to_json(), given.to_json()])
    return ", ".join(f"{key} {a} there, {b} given" for key, (a, b) in list(found.items())[:3])

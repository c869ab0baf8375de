"""A run: the folder in which one training lives, and out of which it resumes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robustpolicy.data import get_source
from robustpolicy.errors import UserError
from robustpolicy.models import Normalize, build_model
from robustpolicy.training.files import make_folder, write_atomically, write_json, write_text
from robustpolicy.training.recipe import Recipe, load_recipe


class Run:
    """A run folder: ``recipe.json``, ``environment.json``, ``history.jsonl``, ``checkpoint.pt``,
    and once it is done ``weights.safetensors`` and ``DONE``.

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
    def create(cls, path: str | Path, recipe: Recipe) -> Run:
        """Open the run of this recipe in this folder, or begin it.

        Raises:
            UserError: the folder holds another run or other files, or cannot be made.
        """
        path = Path(path)
        if (path / "recipe.json").exists():
            there = cls.open(path)
            if there.recipe != recipe:
                raise UserError(
                    f"{path} holds a different run ({_difference(there.recipe, recipe)}); choose "
                    "another --output, or delete that folder"
                )
            return there
        make_folder(path)
        strangers = [p.name for p in path.iterdir() if p.name[0] != "." and p.name != "lock"]
        if strangers:
            raise UserError(
                f"{path} is not empty and not a run folder (it holds {strangers[0]}); choose "
                "another --output"
            )
        write_json(path / "recipe.json", recipe.to_json())
        return cls(path, recipe)

    def lock(self) -> FileLock:
        """Take the folder for this process, until the lock is released or the process ends.

        Raises:
            UserError: another process trains in this folder.
        """
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is training in {self.path}; wait for it, or choose another "
                "--output"
            ) from None
        return lock

    @property
    def done(self) -> bool:
        """Whether training has ended and the weights are there."""
        return (self.path / "DONE").exists()

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
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(
                f"{path} cannot be read ({str(error).splitlines()[0]}); delete it to start this "
                "run again from its first epoch"
            ) from None

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Write the state and the history made from it.

        Raises:
            UserError: no space; the former checkpoint stays.
        """
        write_atomically(
            self.path / "checkpoint.pt", lambda temporary: torch.save(state, temporary)
        )
        lines = [json.dumps(record) for record in state["history"]]
        write_text(self.path / "history.jsonl", "".join(line + "\n" for line in lines))

    def finish(self, model: nn.Module) -> None:
        """Write the weights and mark the run as done."""
        weights = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
        write_atomically(self.path / "weights.safetensors", lambda to: save_file(weights, to))
        write_text(self.path / "DONE", "")

    def load_model(self) -> nn.Module:
        """The trained model, on the CPU, in eval mode.

        Raises:
            UserError: the run is not finished, or its weights do not fit.
        """
        if not self.done:
            epochs = len(self.history())
            raise UserError(
                f"{self.path} is not finished ({epochs} of {self.recipe.epochs} epochs); go on "
                f"with `robustpolicy train --from {self.path}/recipe.json --output {self.path}`"
            )
        model = build_recipe_model(self.recipe)
        load_weights(model, self.path / "weights.safetensors")
        return model.eval()

    def history(self) -> list[dict[str, Any]]:
        """One record an epoch."""
        path = self.path / "history.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def environment(self) -> dict[str, Any]:
        """Versions and hardware with which the run began."""
        return json.loads((self.path / "environment.json").read_text())


def build_recipe_model(recipe: Recipe) -> nn.Module:
    """The model of a recipe, with fresh weights from the global generator."""
    source = get_source(recipe.dataset)
    model = build_model(recipe.model, len(source.classes))
    if recipe.normalize:
        model = nn.Sequential(Normalize(source.mean, source.std), model)
    return model


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


def _difference(there: Recipe, given: Recipe) -> str:
    """The first few fields in which two recipes differ."""
    a, b = _flat(there.to_json()), _flat(given.to_json())
    parts = [f"{k} {a.get(k)} there, {b.get(k)} given" for k in {**a, **b} if a.get(k) != b.get(k)]
    return ", ".join(parts[:3])


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat

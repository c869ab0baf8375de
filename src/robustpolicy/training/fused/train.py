"""Train many recipes as one, each into its own run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustpolicy.data import Split, load_dataset, splits, to_float
from robustpolicy.errors import UserError
from robustpolicy.training.environment import resolve_device
from robustpolicy.training.files import write_json
from robustpolicy.training.fused.members import check_members, check_model
from robustpolicy.training.fused.pack import Pack
from robustpolicy.training.monitor import Monitor
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.run import Run, build_recipe_model
from robustpolicy.training.signals import Interrupted, StopRequests
from robustpolicy.training.trainer import State, _check_fit, _resume


def train_fused(
    recipes: Sequence[Recipe],
    outputs: Sequence[str | Path],
    *,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    monitor: Monitor | None = None,
    max_members: int | None = None,
    checkpoint_seconds: float = 30.0,
    row_convolutions: bool = True,
) -> list[Run]:
    """Train recipes as one, or go on where each of them stopped.

    Members may differ in seed, loss (cross-entropy or two stages), optimiser and epochs. Each
    ends with the run that :func:`robustpolicy.training.train` makes of its recipe, to float
    tolerance, whoever else is in the pack; either function goes on with the other's checkpoints.
    A member that diverges is warned of and left out, and its run stays unfinished.

    Args:
        recipes: one a member.
        outputs: a run folder for each; runs that are done are left as they are.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        monitor: is told of every step of a pack and of every epoch of a member, whose record also
            has its folder as ``run``. ``seconds`` is the member's equal share of the pack's.
        max_members: at most so many members a pack, packs one after another; None: all in one.
        checkpoint_seconds: checkpoints are written at the ends of epochs, at least so far apart.
        row_convolutions: convolve by matrix products; torch's grouped convolutions if not.

    Returns:
        The runs, in the order of the recipes; all are done but those that diverged.

    Raises:
        UserError: recipes that cannot train as one, naming the field; a model with dropout or
            BatchNorm; and what ``train`` raises.
        Interrupted: SIGINT or SIGTERM came; the checkpoints are written.
    """
    paths = [Path(output) for output in outputs]
    check_members(recipes, paths)
    if max_members is not None and max_members < 1:
        raise UserError(f"max_members is {max_members}; give at least 1")
    where = resolve_device(str(device))
    recipe = recipes[0]
    dataset = load_dataset(recipe.dataset, data_dirs)
    _check_fit(recipe, dataset)
    train_split, watched = (
        split.to(where) for split in splits(dataset, recipe.protocol, recipe.validation)
    )
    size = max_members or len(recipes)
    runs: list[Run] = []
    with torch.random.fork_rng(), StopRequests() as stop:
        check_model(build_recipe_model(recipe), recipe.model, to_float(dataset.train_images[:2]))
        loop = _Loop(
            train_split, watched, stop, monitor or Monitor(), checkpoint_seconds, row_convolutions
        )
        for first in range(0, len(recipes), size):
            with ExitStack() as claims:
                claimed = [
                    claims.enter_context(Run.claim(*pair))
                    for pair in list(zip(paths, recipes, strict=True))[first : first + size]
                ]
                loop.run([run for run in claimed if not run.done], where)
                runs += claimed
    return runs


@dataclass
class _Member:
    """A run that trains, and the epoch of its last checkpoint."""

    run: Run
    state: State
    saved: int = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.state.epoch

    def save(self) -> None:
        """Write the checkpoint, unless the state is worth nothing."""
        if math.isfinite(float(self.state.loss_sum)):
            self.run.save_checkpoint(_own(self.state.state_dict()))
            self.saved = self.state.epoch


@dataclass
class _Loop:
    """What all packs of a call share."""

    train_split: Split
    watched: Split
    stop: StopRequests
    monitor: Monitor
    checkpoint_seconds: float
    row_convolutions: bool

    def run(self, runs: Sequence[Run], device: torch.device) -> None:
        """Train unfinished runs to their ends, as one."""
        members = [self._open(run, device, len(runs)) for run in runs]
        pack: Pack | None = None
        saved_at = time.monotonic()
        while members := _finish(members):
            # Runs stopped within an epoch, alone or in another pack, first complete it.
            step = max(member.state.step for member in members)
            group = [member for member in members if member.state.step == step]
            states = [member.state for member in group]
            if pack is None or pack.states != states:
                pack = Pack(states, self.train_split, row_convolutions=self.row_convolutions)
                first = min(state.epoch for state in states)
                self.monitor.start(states[0].recipe, first, pack.steps)
            self._train_epoch(pack, members)
            accuracies = pack.accuracies(self.watched)
            for member, accuracy in zip(group, accuracies, strict=True):
                if not self._end_epoch(member, accuracy):
                    members.remove(member)
            if time.monotonic() - saved_at >= self.checkpoint_seconds:
                for member in members:
                    member.save()
                saved_at = time.monotonic()

    def _open(self, run: Run, device: torch.device, packed: int) -> _Member:
        state = State(run.recipe, device)
        _resume(run, state, self.monitor)
        write_json(run.path / "environment.json", {**run.environment(), "packed": packed})
        return _Member(run, state)

    def _train_epoch(self, pack: Pack, members: Sequence[_Member]) -> None:
        """The hot loop: the rest of an epoch."""
        pack.begin_epoch()
        begun = time.perf_counter()
        while pack.step < pack.steps and self.stop.requested is None:
            pack.train_step()
            self.monitor.step()
        pack.correct.cpu()  # waits for the device, so that the seconds are the whole of them
        for state in pack.states:
            state.step = pack.step
            state.seconds += (time.perf_counter() - begun) / len(pack.states)
        if self.stop.requested is not None:
            for member in members:
                member.save()
            raise Interrupted(
                f"stopped after step {pack.step} of an epoch; the checkpoints are in the "
                f"{len(members)} run folders, the same call goes on from there",
                self.stop.requested,
            )

    def _end_epoch(self, member: _Member, accuracy: float) -> bool:
        """Close an epoch of a member; False where it has diverged."""
        run, state = member.run, member.state
        try:
            record = state.end_epoch(accuracy, len(self.train_split))
        except UserError:
            self.monitor.warn(
                f"{run.path} diverged in epoch {state.epoch + 1} and is left out (its checkpoint "
                f"is of epoch {member.saved}); try a lower learning rate in another folder"
            )
            return False
        self.monitor.epoch({**record, "run": str(run.path)})
        return True


def _finish(members: Sequence[_Member]) -> list[_Member]:
    """Finish the runs whose epochs are complete; the others."""
    left = []
    for member in members:
        if member.state.epoch < member.run.recipe.epochs:
            left.append(member)
        else:
            member.save()
            member.run.finish(member.state.model)
    return left


def _own(value: Any) -> Any:
    """The same data with tensors of their own: of a view, torch.save writes the whole storage."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_own(item) for item in value)
    return value

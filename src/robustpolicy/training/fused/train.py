"""Train many recipes as one, each into its own run folder."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.data import Source, Split, load_dataset, splits, to_float
from robustpolicy.errors import UserError
from robustpolicy.training.distributed import Group
from robustpolicy.training.environment import Execution
from robustpolicy.training.files import write_json
from robustpolicy.training.fit import check_fit
from robustpolicy.training.fused.members import check_members, check_model
from robustpolicy.training.fused.pack import Pack
from robustpolicy.training.monitor import Monitor
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.run import Run, build_recipe_model
from robustpolicy.training.signals import Interrupted, StopRequests
from robustpolicy.training.state import State
from robustpolicy.training.trainer import _resume
from robustpolicy.training.watching import is_best, is_over, robust_accuracy_of


def train_fused(
    recipes: Sequence[Recipe],
    outputs: Sequence[str | Path],
    *,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    precision: str = "auto",
    monitor: Monitor | None = None,
    max_members: int | None = None,
    checkpoint_seconds: float = 30.0,
    row_convolutions: bool = True,
) -> list[Run]:
    """Train recipes as one, or go on where each of them stopped.

    Members may differ in seed, loss (cross-entropy or two stages), SGD's settings, epochs and what
    is watched. Each ends with the run that :func:`robustpolicy.training.train` makes of its recipe,
    to float tolerance, whoever else is in the pack; either function goes on with the other's
    checkpoints. A member that diverges is warned of and left out, and its run stays unfinished.

    Args:
        recipes: one a member.
        outputs: a run folder for each; runs that are done are left as they are.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``, as in ``train``.
        monitor: is told of every step of a pack, of every epoch of a member, whose record also has
            its folder as ``run``, and of a start whenever other members go on together. In the
            record, ``seconds`` is the member's equal share of the pack's.
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
    execution = Execution.choose(str(device), precision, capture=False)
    recipe = recipes[0]
    dataset = load_dataset(recipe.dataset, data_dirs, recipe.image_size)
    train_split, watched = splits(dataset, recipe.protocol, recipe.validation)
    check_fit(recipe, dataset.source, train_split)
    with torch.random.fork_rng():
        model = build_recipe_model(recipe, dataset.source)
    check_model(model, recipe.model, to_float(train_split.images[:2]))
    size = max_members or len(recipes)
    pairs = list(zip(paths, recipes, strict=True))
    runs: list[Run] = []
    with torch.random.fork_rng(), StopRequests() as stop:
        loop = _Loop(
            dataset.source,
            train_split.to(execution.device),
            watched.to(execution.device),
            execution,
            stop,
            monitor or Monitor(),
            checkpoint_seconds,
            row_convolutions,
        )
        for first in range(0, len(pairs), size):
            with ExitStack() as claims:
                some = pairs[first : first + size]
                claimed = [claims.enter_context(Run.claim(*pair)) for pair in some]
                for run in claimed:
                    run.keep_dataset(dataset)
                loop.run([run for run in claimed if not run.done])
                runs += claimed
    return runs


@dataclass
class _Member:
    """A run that trains, its best model since its last checkpoint, and the epoch of that."""

    run: Run
    state: State
    best: nn.Module | None = None
    saved: int = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.state.epoch

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        recipe, state = self.run.recipe, self.state
        return state.epoch >= recipe.epochs or is_over(state.history, recipe.watch)

    def save(self) -> None:
        """Write the checkpoint, unless the state is worth nothing."""
        if not math.isfinite(float(self.state.loss_sum)):
            return
        if self.best is not None:  # first: the checkpoint says that it is there
            self.run.save_weights("best", self.best)
            self.best = None
        self.run.save_checkpoint(_own(self.state.state_dict()))
        self.saved = self.state.epoch


@dataclass
class _Loop:
    """What all packs of a call share."""

    dataset: Source
    train_split: Split
    watched: Split
    execution: Execution
    stop: StopRequests
    monitor: Monitor
    checkpoint_seconds: float
    row_convolutions: bool

    def run(self, runs: Sequence[Run]) -> None:
        """Train unfinished runs to their ends, as one."""
        members = [self._open(run, len(runs)) for run in runs]
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

    def _open(self, run: Run, packed: int) -> _Member:
        where = self.execution.device
        state = State(run.recipe, where, self.execution.precision, dataset=self.dataset)
        _resume(run, state, self.monitor, self.execution, Group())
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
            robust = None
            if not math.isnan(accuracy):
                robust = robust_accuracy_of(state.kept, self.watched, run.recipe)
            record = state.end_epoch(accuracy, len(self.train_split), robust)
        except UserError:
            self.monitor.warn(
                f"{run.path} diverged in epoch {state.epoch + 1} and is left out (its checkpoint "
                f"is of epoch {member.saved}); try a lower learning rate in another folder"
            )
            return False
        if is_best(state.history):
            member.best = copy.deepcopy(state.kept)
        self.monitor.epoch({**record, "run": str(run.path)})
        return True


def _finish(members: Sequence[_Member]) -> list[_Member]:
    """Finish the runs that are over; the others."""
    left = []
    for member in members:
        if member.over:
            member.save()
            member.run.finish(member.state.kept)
        else:
            left.append(member)
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

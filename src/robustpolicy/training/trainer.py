"""The training loop: recipe in, run folder out, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from robustpolicy.data import Joining, Split, epoch_batches, epoch_order, load_dataset, splits
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed
from robustpolicy.training.distributed import Group, join, local_device
from robustpolicy.training.environment import Execution, changes, describe_environment
from robustpolicy.training.files import write_json
from robustpolicy.training.fit import check_fit
from robustpolicy.training.monitor import Monitor
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.recipes import get_recipe
from robustpolicy.training.run import Run
from robustpolicy.training.signals import Interrupted, StopRequests
from robustpolicy.training.state import State
from robustpolicy.training.step import CapturedStep, train_step
from robustpolicy.training.unlabelled import with_unlabelled
from robustpolicy.training.watching import accuracy_of, is_best, is_over, robust_accuracy_of

#: Takes a step on a batch: images, labels, and the length of the whole batch.
Step = Callable[[Tensor, Tensor, int], None]


def train(
    recipe: Recipe | str,
    output: str | Path,
    *,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    precision: str = "auto",
    capture: bool | None = None,
    monitor: Monitor | None = None,
    until: Callable[[State], bool] | None = None,
) -> Run:
    """Train a recipe in a run folder, or go on where it stopped.

    On a CPU, a run that was killed and resumed ends bit-identical to an undisturbed one on the
    same machine, with the same versions and thread count; a change of these is warned of.

    Started by ``torchrun``, the processes share each batch: the numbers are those of one process,
    up to rounding. (Two things are a process's own: statistics of batch normalisation, and what a
    model itself draws, as dropout does.)

    Args:
        recipe: what to train, or the name of one of :data:`robustpolicy.training.RECIPES`.
        output: the run folder; made if need be.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        precision: ``"float32"``, ``"bfloat16"`` (float32 weights; attacks stay in float32), or
            ``"auto"``: bfloat16 with CUDA.
        capture: record a step as a CUDA graph and replay it; by default, with CUDA.
        monitor: is told of every step and epoch.
        until: asked between epochs whether to stop there; the run is then not finished, and the
            same call without it goes on from its checkpoint.

    Returns:
        The finished run, or the one that ``until`` stopped.

    Raises:
        UserError: bad input, missing data, a folder with a different run, a full disk, or a
            training that diverged.
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
    """
    if isinstance(recipe, str):
        recipe = get_recipe(recipe)
    monitor = monitor or Monitor()
    execution = Execution.choose(str(device), precision, capture)
    where = local_device(execution.device)
    dataset = load_dataset(recipe.dataset, data_dirs, recipe.image_size)
    train_split, watched = splits(dataset, recipe.protocol, recipe.validation)
    check_fit(recipe, dataset.source, train_split)
    train_split, joining = with_unlabelled(train_split, recipe, where)
    with ExitStack() as stack:
        group = stack.enter_context(join(where))
        run = Run(Path(output), recipe)
        if group.leader:
            run = stack.enter_context(Run.claim(output, recipe))
            run.keep_dataset(dataset)
        if group.any(group.leader and run.done):
            return run
        stack.enter_context(torch.random.fork_rng())
        stop = stack.enter_context(StopRequests())
        state = State(recipe, where, execution.precision, group, dataset.source)
        if group.leader:
            _resume(run, state, monitor, execution, group)
        if group.size > 1:
            state.load_state_dict(group.share(state.state_dict() if group.leader else None))
            if not group.leader:  # what was summed up before stays with one of them
                state.loss_sum.zero_()
                state.correct.zero_()
        train_split, watched = train_split.to(where), watched.to(where)
        loop = _Loop(run, state, train_split, joining, group, stop, monitor)
        if execution.capture and group.size == 1:
            captured = CapturedStep(state, None if capture else monitor.warn)
            loop.take = lambda images, labels, total: captured(images, labels)
        monitor.start(recipe, state.epoch, loop.steps)

        def stopped() -> bool:
            return until is not None and state.step == 0 and until(state)

        while state.epoch < recipe.epochs and not is_over(state.history, recipe.watch):
            if stopped():
                break
            loop.epoch()
            group.add([state.loss_sum])
            group.add([state.correct])
            accuracy = accuracy_of(state.kept, watched, group=group)
            robust = robust_accuracy_of(state.kept, watched, recipe, group)
            record = state.end_epoch(accuracy, loop.samples, robust)
            if group.leader:
                if is_best(state.history):  # first: the checkpoint says that it is there
                    run.save_weights("best", state.kept)
                run.save_checkpoint(state.state_dict())
            monitor.epoch(record)
        if group.leader and not stopped():
            run.finish(state.kept)
        group.any(False)  # nobody returns before the folder is whole
    return run


class _Loop:
    """The hot loop: nothing in it waits for the device.

    Attributes:
        take: takes a step on a batch.
        steps: steps of an epoch.
        samples: samples of an epoch, those that join included.
    """

    def __init__(
        self,
        run: Run,
        state: State,
        split: Split,
        joining: Joining | None,
        group: Group,
        stop: StopRequests,
        monitor: Monitor,
    ) -> None:
        self._run, self._state, self._split, self._joining = run, state, split, joining
        self._group, self._stop, self._monitor = group, stop, monitor
        self.take: Step = lambda images, labels, total: train_step(
            state, images, labels, total, group
        )
        batches = epoch_order(len(split), state.recipe.batch_size, 0, joining)
        self.steps, self.samples = len(batches), sum(map(len, batches))

    def epoch(self) -> None:
        """Train one epoch, from the present step on."""
        state, recipe = self._state, self._state.recipe
        for settings in state.optimizer.param_groups:
            settings["lr"] = state.rate
        batches = epoch_batches(
            self._split,
            recipe.batch_size,
            derive_seed(recipe.seed, "order", state.epoch),
            start=state.step,
            augmentation=recipe.augmentation,
            generator=state.source,
            rows=self._group.rows,
            joining=self._joining,
        )
        state.model.train()
        begun = time.perf_counter()
        for images, labels, total in batches:
            self.take(images, labels, total)
            state.step += 1
            self._monitor.step()
            if self._group.any(self._stop.requested is not None):
                state.seconds += time.perf_counter() - begun
                self._leave()
        state.seconds += time.perf_counter() - begun

    def _leave(self) -> None:
        """Save what there is and say how to go on."""
        state, run, recipe = self._state, self._run, self._state.recipe
        self._group.add([state.loss_sum])
        self._group.add([state.correct])
        # A diverged state is worth nothing.
        if self._group.leader and math.isfinite(float(state.loss_sum)):
            run.save_checkpoint(state.state_dict())
        raise Interrupted(
            f"stopped in epoch {state.epoch + 1} of {recipe.epochs} after step {state.step}; "
            f"the checkpoint is in {run.path}, the same command goes on from there",
            self._stop.requested or 15,
        )


def _resume(run: Run, state: State, monitor: Monitor, execution: Execution, group: Group) -> None:
    """Restore the checkpoint, if there is one; say so if the environment has changed."""
    environment = {
        **describe_environment(state.device),
        "precision": execution.precision,
        "captured": execution.capture and group.size == 1,
        "processes": group.size,
    }
    checkpoint = run.load_checkpoint()
    if checkpoint is None:
        write_json(run.path / "environment.json", environment)
        return
    before = run.environment()
    changed = changes(before, environment)
    if changed:
        resumed = [*before.get("resumed", []), environment]
        write_json(run.path / "environment.json", {**(before or environment), "resumed": resumed})
        monitor.warn(
            f"{run.path} was begun elsewhere ({'; '.join(changed)}): it goes on, but its numbers "
            "can differ in the last digits from an undisturbed run"
        )
    try:
        state.load_state_dict(checkpoint)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{run.path}/checkpoint.pt does not fit this run ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:150]}); delete it to start again from the first epoch"
        ) from None
    if state.history and not run.weights.exists() and state.recipe.watch.keep == "best":
        raise UserError(
            f"{run.weights} is gone, and only training made it; delete {run.path}/checkpoint.pt to "
            "start again from the first epoch"
        )
    run.write_history(state.history)  # a kill may have come between checkpoint and history

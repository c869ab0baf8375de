"""The training loop: recipe in, run folder out, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustpolicy.data import Dataset, Split, epoch_batches, load_dataset, splits, to_float
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed
from robustpolicy.training.adversarial import backward
from robustpolicy.training.environment import changes, describe_environment, resolve_device
from robustpolicy.training.files import write_json
from robustpolicy.training.loss import build_loss
from robustpolicy.training.monitor import Monitor
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.recipes import get_recipe
from robustpolicy.training.run import Run, build_recipe_model
from robustpolicy.training.signals import Interrupted, StopRequests


def train(
    recipe: Recipe | str,
    output: str | Path,
    *,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    monitor: Monitor | None = None,
) -> Run:
    """Train a recipe in a run folder, or go on where it stopped.

    On a CPU, a run that was killed and resumed ends bit-identical to an undisturbed one on the
    same machine, with the same versions and thread count; a change of these is warned of.

    Args:
        recipe: what to train, or the name of one of :data:`robustpolicy.training.RECIPES`.
        output: the run folder; made if need be.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        monitor: is told of every step and epoch.

    Returns:
        The finished run.

    Raises:
        UserError: bad input, missing data, a folder with a different run, a full disk, or a
            training that diverged.
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
    """
    if isinstance(recipe, str):
        recipe = get_recipe(recipe)
    monitor = monitor or Monitor()
    where = resolve_device(str(device))
    dataset = load_dataset(recipe.dataset, data_dirs)
    _check_fit(recipe, dataset)
    train_split, watched = splits(dataset, recipe.protocol, recipe.validation)
    with Run.claim(output, recipe) as run, torch.random.fork_rng(), StopRequests() as stop:
        if run.done:
            return run
        state = State(recipe, where)
        _resume(run, state, monitor)
        train_split, watched = train_split.to(where), watched.to(where)
        monitor.start(recipe, state.epoch, -(-len(train_split) // recipe.batch_size))
        while state.epoch < recipe.epochs:
            _train_epoch(state, train_split, run, stop, monitor)
            accuracy = accuracy_of(state.model, watched)
            record = state.end_epoch(accuracy, len(train_split))
            run.save_checkpoint(state.state_dict())
            monitor.epoch(record)
        run.finish(state.model)
    return run


class State:
    """Everything that changes while a recipe trains, and can be saved and restored.

    Attributes:
        epoch: epochs that are complete.
        step: steps done of the present epoch.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        # The global generator is forked around training, so models with dropout resume too.
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        self.recipe = recipe
        self.device = device
        # channels_last is the fastest layout on CPU and GPU; torch's types do not know it here.
        self.model = build_recipe_model(recipe).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator(device).manual_seed(derive_seed(recipe.seed, "noise"))
        self.loss = build_loss(recipe.loss, self.generator).to(device)
        sgd = recipe.optimizer
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=sgd.learning_rate,
            momentum=sgd.momentum,
            weight_decay=sgd.weight_decay,
        )
        self.epoch = 0
        self.step = 0
        # Sums over the epoch stay on the device: reading them at each step would wait for it.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=wide, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []

    @property
    def stage(self) -> int | None:
        """Stage of a loss that has stages, else None."""
        return getattr(self.loss, "stage", None)

    def end_epoch(self, accuracy: float, samples: int) -> dict[str, Any]:
        """Close an epoch: check it, record it, let the loss observe the watched accuracy.

        Raises:
            UserError: the loss is not finite.
        """
        loss = float(self.loss_sum) / samples
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "loss": loss,
            "train_accuracy": int(self.correct) / samples,
            "watched_accuracy": accuracy,
            "learning_rate": self.recipe.optimizer.rate(self.epoch),
            "seconds": round(self.seconds, 3),
        }
        if self.stage is not None:
            record["stage"] = self.stage
        # The last step's damage is not in the loss yet, but in what the model says afterwards.
        if not math.isfinite(loss) or math.isnan(accuracy):
            what = f"the loss of epoch {self.epoch + 1} is {loss}"
            if math.isfinite(loss):
                what = f"after epoch {self.epoch + 1} the model's outputs are not finite"
            raise UserError(
                f"training diverged: {what}. The checkpoint of epoch {self.epoch} is kept; try a "
                "lower --learning-rate with another --output"
            )
        if self.stage is not None:
            self.loss.observe(accuracy)  # type: ignore[operator]
        self.history.append(record)
        self.epoch += 1
        self.step = 0
        self.loss_sum.zero_()
        self.correct.zero_()
        self.seconds = 0.0
        return record

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors, loadable with ``weights_only=True``."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict(),
            "generator": self.generator.get_state(),
            "generator_device": self.device.type,
            "global_generator": torch.get_rng_state(),
            "epoch": self.epoch,
            "step": self.step,
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "seconds": self.seconds,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore everything from :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss.load_state_dict(state["loss"])
        if state["generator_device"] == self.device.type:
            self.generator.set_state(state["generator"])
        else:  # another kind of device has another generator: a new stream, of its own
            where = state["epoch"], state["step"]
            self.generator.manual_seed(derive_seed(self.recipe.seed, "noise", *where))
        torch.set_rng_state(state["global_generator"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.loss_sum.copy_(state["loss_sum"])
        self.correct.copy_(state["correct"])
        self.seconds, self.history = state["seconds"], state["history"]


def accuracy_of(model: nn.Module, split: Split, batch_size: int = 1000) -> float:
    """Share of a split that a model classifies correctly, in eval mode; restores the mode.

    NaN where any output is not finite: such a model classifies nothing.
    """
    training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    finite = torch.ones((), dtype=torch.bool, device=split.labels.device)
    with torch.inference_mode():
        for first in range(0, len(split), batch_size):
            images = to_float(split.images[first : first + batch_size])
            labels = split.labels[first : first + batch_size]
            logits = model(images)
            finite &= torch.isfinite(logits).all()
            correct += (logits.argmax(1) == labels).sum()
    model.train(training)
    return int(correct) / len(split) if bool(finite) else float("nan")


def _check_fit(recipe: Recipe, dataset: Dataset) -> None:
    """Try the model on two images before anything is written.

    Raises:
        UserError: an unknown model, or one that cannot take these images.
    """
    with torch.random.fork_rng(), torch.inference_mode():
        model = build_recipe_model(recipe).eval()
        try:
            model(to_float(dataset.train_images[:2]))
        except RuntimeError as error:
            raise UserError(
                f"model {recipe.model} cannot take images of {recipe.dataset}, shape "
                f"{dataset.source.shape}: {str(error).splitlines()[0]}; choose another --model"
            ) from None


def _resume(run: Run, state: State, monitor: Monitor) -> None:
    """Restore the checkpoint, if there is one; say so if the environment has changed."""
    environment = describe_environment(state.device)
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
    run.write_history(state.history)  # a kill may have come between checkpoint and history


def _train_epoch(
    state: State, split: Split, run: Run, stop: StopRequests, monitor: Monitor
) -> None:
    """The hot loop: one epoch from ``state.step`` on; nothing in it waits for the device."""
    recipe, model, loss_fn, optimizer = state.recipe, state.model, state.loss, state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = recipe.optimizer.rate(state.epoch)
    batches = epoch_batches(
        split,
        recipe.batch_size,
        derive_seed(recipe.seed, "order", state.epoch),
        start=state.step,
        augmentation=recipe.augmentation,
        generator=state.generator,
    )
    model.train()
    begun = time.perf_counter()
    for images, labels in batches:
        passes = getattr(loss_fn, "passes", 1)
        if passes > 1:
            loss_fn.begin()  # type: ignore[operator]
        for number in range(passes):
            optimizer.zero_grad(set_to_none=True)
            outcome = backward(
                model, loss_fn, images, labels, recipe.adversary, state.epoch, state.generator
            )
            if number == 0:
                loss, logits = outcome
            optimizer.step()
        state.loss_sum += loss.detach() * len(labels)
        state.correct += (logits.detach().argmax(1) == labels).sum()
        state.step += 1
        monitor.step()
        if stop.requested is not None:
            state.seconds += time.perf_counter() - begun
            if math.isfinite(float(state.loss_sum)):  # a diverged state is worth nothing
                run.save_checkpoint(state.state_dict())
            raise Interrupted(
                f"stopped in epoch {state.epoch + 1} of {recipe.epochs} after step {state.step}; "
                f"the checkpoint is in {run.path}, the same command goes on from there",
                stop.requested,
            )
    state.seconds += time.perf_counter() - begun

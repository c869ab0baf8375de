"""Everything that changes while a recipe trains."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.data import Source
from robustpolicy.draws import RandomSource, Shard
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed
from robustpolicy.training.distributed import Group
from robustpolicy.training.loss import build_loss
from robustpolicy.training.recipe import AdamW, Recipe
from robustpolicy.training.run import build_recipe_model


class State:
    """Everything that changes while a recipe trains, and can be saved and restored.

    Args:
        recipe: what trains.
        device: where.
        precision: ``"bfloat16"`` computes the training's forward and backward passes in it, with
            float32 weights; attacks, and ``"float32"``, stay in float32.
        group: the processes that train together.
        dataset: what the recipe's data set is, if that is known already.

    Attributes:
        epoch: epochs that are complete.
        step: steps done of the present epoch.
        source: of random draws.
        history: one record a complete epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        precision: str = "float32",
        group: Group | None = None,
        dataset: Source | None = None,
    ) -> None:
        # The global generator is forked around training, so models with dropout resume too.
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        self.recipe = recipe
        self.device = device
        self.precision = precision
        # channels_last is the fastest layout on CPU and GPU; torch's types do not know it here.
        self.model = build_recipe_model(recipe, dataset).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = _frozen(self.model) if recipe.average else None
        self.generator = torch.Generator(device).manual_seed(derive_seed(recipe.seed, "noise"))
        self.source: RandomSource = self.generator
        if group is not None and group.size > 1:
            self.source = Shard(self.generator)
        self.loss = build_loss(recipe.loss, self.source).to(device)
        self.optimizer = _optimizer(recipe, self.model, device)
        self.epoch = 0
        self.step = 0
        # Sums over the epoch stay on the device: reading them at each step would wait for it.
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=wide, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.updates = torch.zeros((), device=device)  # of the average
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []

    @property
    def stage(self) -> int | None:
        """Stage of a loss that has stages, else None."""
        return getattr(self.loss, "stage", None)

    @property
    def rate(self) -> float:
        """Learning rate of the present epoch."""
        return self.recipe.optimizer.rate(self.epoch, self.recipe.epochs)

    @property
    def kept(self) -> nn.Module:
        """The model that is watched and saved: the average, where there is one."""
        return self.model if self.average is None else self.average

    def update_average(self) -> None:
        """Let the average follow the weights.

        Its decay is at most (1 + t) / (10 + t) after t steps, so that it soon forgets the start.
        """
        if self.average is None:
            return
        keep = ((1 + self.updates) / (10 + self.updates)).clamp(max=self.recipe.average)
        with torch.no_grad():
            ours = self.model.parameters()
            for parameter, average in zip(ours, self.average.parameters(), strict=True):
                average.lerp_(parameter, 1 - keep)
        for mine, other in zip(self.model.buffers(), self.average.buffers(), strict=True):
            other.copy_(mine)  # running statistics are an average already
        self.updates += 1

    def end_epoch(
        self, accuracy: float, samples: int, robust_accuracy: float | None = None
    ) -> dict[str, Any]:
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
            "learning_rate": self.rate,
            "seconds": round(self.seconds, 3),
        }
        if robust_accuracy is not None:
            record["watched_robust_accuracy"] = robust_accuracy
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

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor that a step changes."""
        yield from (self.loss_sum, self.correct, self.updates)
        for module in (self.model, self.average):
            if module is not None:
                yield from module.parameters()
                yield from module.buffers()
        for entries in self.optimizer.state.values():
            yield from (value for value in entries.values() if isinstance(value, Tensor))

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors, loadable with ``weights_only=True``."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "updates": self.updates,
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
        if self.average is not None:
            self.average.load_state_dict(state["average"])
            self.updates.copy_(state["updates"])
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


def _frozen(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).requires_grad_(False).eval()


def _optimizer(recipe: Recipe, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    settings = recipe.optimizer
    if isinstance(settings, AdamW):
        return torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            capturable=device.type == "cuda",
        )
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )

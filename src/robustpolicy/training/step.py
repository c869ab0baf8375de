"""One optimiser step, and the same step as a captured CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustpolicy.errors import UserError
from robustpolicy.training.adversarial import backward
from robustpolicy.training.distributed import Group
from robustpolicy.training.state import State


def train_step(state: State, images: Tensor, labels: Tensor, total: int, group: Group) -> None:
    """Take one step on a batch, or as many as the loss has passes; none waits for the device.

    Args:
        state: what trains.
        images: this process's rows of the batch, float32 in [0, 1], shape (B, C, H, W).
        labels: shape (B,).
        total: rows of the whole batch.
        group: the processes that share it.
    """
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    passes = getattr(state.loss, "passes", 1)
    if passes > 1:
        state.loss.begin()  # type: ignore[operator]
    for number in range(passes):
        state.optimizer.zero_grad(set_to_none=True)
        if len(labels):
            loss, logits = backward(
                state.model,
                state.loss,
                images,
                labels,
                state.recipe.adversary,
                state.epoch,
                state.source,
                precision=state.precision,
                share=len(labels) / total,
                group=group,
            )
            if number == 0:
                state.loss_sum += loss.detach() * len(labels)
                state.correct += (logits.detach().argmax(1) == labels).sum()
        if group.size > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            group.add([p.grad for p in parameters if p.grad is not None])
        if state.recipe.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, state.recipe.optimizer.clip_norm)
        state.optimizer.step()
        state.update_average()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:150]


@dataclass
class _Graph:
    graph: torch.cuda.CUDAGraph
    images: Tensor
    labels: Tensor


class CapturedStep:
    """:func:`train_step` recorded once and replayed, without the cost of launching its kernels.

    What a graph has burnt in is part of its key: the shape of the batch, the stage of the loss,
    the learning rate and the radius of the inner attack. Each new key is recorded anew.

    Args:
        state: what trains, on a CUDA device.
        warn: told where a step cannot be recorded and goes on eagerly; None makes that an error.
    """

    #: Steps before a recording, in which libraries choose their kernels and make their buffers.
    WARM_UP = 3

    def __init__(self, state: State, warn: Callable[[str], None] | None = None) -> None:
        self._state = state
        self._warn = warn
        self._graphs: dict[tuple[object, ...], _Graph] = {}
        self._eager = False

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Take one step on a batch."""
        state = self._state
        if self._eager:
            train_step(state, images, labels, len(labels), Group())
            return
        radius = getattr(state.recipe.adversary, "radius", lambda epoch: None)(state.epoch)
        rate = state.optimizer.param_groups[0]["lr"]
        key = (tuple(images.shape), state.stage, rate, radius)
        if key not in self._graphs:
            if len(self._graphs) >= 8:  # a schedule that changes every epoch leaves old ones behind
                self._graphs.clear()
            try:
                self._graphs[key] = self._record(images, labels)
            except RuntimeError as error:
                # A recording executes nothing, so the state is as before it.
                if self._warn is None:
                    raise UserError(
                        f"the step cannot be captured ({_short(error)}); use --capture no"
                    ) from None
                self._warn(f"the step cannot be captured ({_short(error)}); going on without")
                self._eager = True
                return self(images, labels)
        recorded = self._graphs[key]
        recorded.images.copy_(images)
        recorded.labels.copy_(labels)
        recorded.graph.replay()

    def _record(self, images: Tensor, labels: Tensor) -> _Graph:
        state = self._state
        static = _Graph(torch.cuda.CUDAGraph(), images.clone(), labels.clone())
        total = len(labels)

        def step() -> None:
            train_step(state, static.images, static.labels, total, Group())

        before = [(tensor, tensor.clone()) for tensor in state.tensors()]
        draws = state.generator.get_state(), torch.cuda.get_rng_state(state.device)
        stream = torch.cuda.Stream(state.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(state.device))
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UP):
                step()
        torch.cuda.current_stream(state.device).wait_stream(stream)
        # Undo the steps. A momentum that did not exist before is zero, which steps alike.
        known = {id(tensor) for tensor, _ in before}
        for tensor, value in before:
            tensor.copy_(value) if not tensor.requires_grad else tensor.data.copy_(value)
        for tensor in state.tensors():
            if id(tensor) not in known:
                tensor.zero_()
        state.generator.set_state(draws[0])
        torch.cuda.set_rng_state(draws[1], state.device)
        static.graph.register_generator_state(state.generator)
        with torch.cuda.graph(static.graph):
            step()
        return static

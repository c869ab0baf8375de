"""A pack: the members' weights stacked in one tensor each, and the step that trains them all."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from robustpolicy.data import Split, to_float
from robustpolicy.data.batches import apply_crops, draw_crops, epoch_order
from robustpolicy.randomness import derive_seed
from robustpolicy.training.fused.convolution import use_row_convolutions
from robustpolicy.training.fused.objective import Objective, present_terms
from robustpolicy.training.recipe import Sgd
from robustpolicy.training.state import State


class Pack:
    """Members that train together from one step of an epoch on.

    Their states become views of the pack's tensors: what the pack does to its row m has happened
    to state m, so that ``State`` closes epochs and makes checkpoints as if it trained alone.

    Args:
        states: of the members, all at the same step; dtype, device and precision are theirs.
        split: what to train on, on that device.
        row_convolutions: convolve by :class:`RowConv2d`; torch's grouped convolution if not.

    Attributes:
        steps: steps of an epoch.
        step: steps done of the present one, after :meth:`begin_epoch`.
    """

    step: int

    def __init__(
        self, states: Sequence[State], split: Split, *, row_convolutions: bool = True
    ) -> None:
        recipe = states[0].recipe
        self.states = list(states)
        self.split = split
        self.batch_size = recipe.batch_size
        self.steps = -(-len(split) // recipe.batch_size)
        self._precision = states[0].precision
        self._crop = recipe.augmentation == "crop-flip"
        # The template gives the computation; its own weights are never used.
        self._template = copy.deepcopy(states[0].model)
        if row_convolutions:
            use_row_convolutions(self._template)
        self.params, _ = stack_module_state([state.model for state in states])
        self._trained = [name for name, value in self.params.items() if value.requires_grad]
        self._like = next(iter(self.params.values()))
        optimizers = [_sgd(state) for state in states]
        self._momentum = self._column([optimizer.momentum for optimizer in optimizers])
        self._decay = self._column([optimizer.weight_decay for optimizer in optimizers])
        self._has_momentum = any(optimizer.momentum for optimizer in optimizers)
        self._has_decay = any(optimizer.weight_decay for optimizer in optimizers)
        self._buffers = {
            name: torch.zeros_like(value)
            for name, value in self.params.items()
            if self._has_momentum
        }
        self.loss_sum = torch.stack([state.loss_sum for state in states])
        self.correct = torch.stack([state.correct for state in states])
        for number, state in enumerate(self.states):
            self._share(number, state)

    def _share(self, number: int, state: State) -> None:
        """Make a state's tensors views of the pack's."""
        state.loss_sum, state.correct = self.loss_sum[number], self.correct[number]
        for name, parameter in state.model.named_parameters():
            parameter.data = self.params[name].detach()[number]
            if _sgd(state).momentum:
                buffer = self._buffers[name][number]
                slot = state.optimizer.state[parameter]
                if slot.get("momentum_buffer") is not None:
                    buffer.copy_(slot["momentum_buffer"])
                slot["momentum_buffer"] = buffer

    def begin_epoch(self) -> None:
        """Take from each state what is its own in this epoch: rate, loss, order."""
        self.step = self.states[0].step
        rates = []
        for state in self.states:
            rates.append(state.rate)
            for group in state.optimizer.param_groups:
                group["lr"] = rates[-1]
        self._minus_rate = -self._column(rates)
        self._objective = Objective(
            [present_terms(state.recipe.loss, state.stage) for state in self.states],  # type: ignore[arg-type]
            self._like,
        )
        orders = [self._order_of(state) for state in self.states]
        self._order = torch.stack(orders).to(self.split.labels.device)  # (M, N)

    def train_step(self) -> None:
        """One step of every member; nothing in it waits for the device."""
        first = self.step * self.batch_size
        chosen = self._order[:, first : first + self.batch_size]  # (M, B)
        labels = self.split.labels[chosen]
        images, u = self._draw(chosen)
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self._precision == "bfloat16"
        ):
            logits = self._forward(images, 0).to(self._like.dtype)
        losses = self._objective(logits, labels, u)
        # A member's loss depends on its own weights alone: the gradients of the sum are theirs.
        self._descend(
            torch.autograd.grad(losses.sum(), [self.params[name] for name in self._trained])
        )
        self.loss_sum += losses.detach() * labels.shape[1]
        self.correct += (logits.detach().argmax(2) == labels).sum(1)
        self.step += 1

    def accuracies(self, split: Split) -> list[float]:
        """Share of a split that each member classifies correctly; NaN as in ``accuracy_of``."""
        size = max(self.batch_size, 1000 // len(self.states))
        correct = torch.zeros_like(self.correct)
        finite = torch.ones_like(self.correct, dtype=torch.bool)
        with torch.no_grad():
            for first in range(0, len(split), size):
                images = to_float(split.images[first : first + size]).to(self._like.dtype)
                logits = self._forward(images, None, training=False)
                finite &= torch.isfinite(logits).all(2).all(1)
                correct += (logits.argmax(2) == split.labels[first : first + size]).sum(1)
        found = zip(correct.tolist(), finite.tolist(), strict=True)
        return [count / len(split) if fine else float("nan") for count, fine in found]

    def _draw(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Images (M, B, C, H, W) and uniform numbers (M, B), drawn as each member alone does."""
        members, n = chosen.shape
        images = self.split.images[chosen].flatten(0, 1)
        if self._crop:
            draws = [draw_crops(n, state.generator, images.device) for state in self.states]
            corners, flips = zip(*draws, strict=True)
            images = apply_crops(images, torch.cat(corners), torch.cat(flips))
        dtype = torch.promote_types(self._like.dtype, torch.float32)
        u = torch.zeros(members, n, dtype=dtype, device=images.device)
        for number in self._objective.sampled:
            u[number].uniform_(generator=self.states[number].generator)
        return to_float(images).to(self._like.dtype).view(members, n, *images.shape[1:]), u

    def _forward(self, images: Tensor, dim: int | None, *, training: bool = True) -> Tensor:
        """Logits (M, B, C) of images that each member has for itself (dim 0) or that all see."""
        self._template.train(training)

        def one(params: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._template, params, (x,))

        return vmap(one, in_dims=(0, dim))(self.params, images)

    @torch.no_grad()
    def _descend(self, gradients: Sequence[Tensor]) -> None:
        """SGD with each member's own rate, momentum and decay, as in torch.optim.SGD."""
        for name, gradient in zip(self._trained, gradients, strict=True):
            parameter = self.params[name]
            shape = (-1,) + (1,) * (parameter.ndim - 1)
            if self._has_decay:
                gradient = torch.addcmul(gradient, parameter, self._decay.view(shape))
            if self._has_momentum:
                gradient = self._buffers[name].mul_(self._momentum.view(shape)).add_(gradient)
            parameter.addcmul_(gradient, self._minus_rate.view(shape))

    def _order_of(self, state: State) -> Tensor:
        seed = derive_seed(state.recipe.seed, "order", state.epoch)
        return torch.cat(epoch_order(len(self.split), self.batch_size, seed))

    def _column(self, values: Sequence[float]) -> Tensor:
        """One number a member, shape (M,)."""
        return torch.tensor(values, dtype=self._like.dtype, device=self._like.device)


def _sgd(state: State) -> Sgd:
    assert isinstance(state.recipe.optimizer, Sgd), "refused by check_members"
    return state.recipe.optimizer

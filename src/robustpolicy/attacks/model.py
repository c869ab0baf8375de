"""A model as attacks see it: frozen, in eval mode, in full precision, and counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch
from torch import Tensor, nn

from robustpolicy.attacks.losses import AttackLoss
from robustpolicy.errors import UserError
from robustpolicy.losses.validation import check_shapes, check_values


class NoGradientError(UserError):
    """The model gives no gradient with respect to its input."""


class AttackedModel:
    """Context in which a model is attacked; leaves the model as it was.

    While entered: eval mode, parameters frozen (a gradient of inputs alone is a third cheaper),
    gradients enabled whatever the caller set, TF32 off. Entering it again is free, so an attack
    may enter a model that its caller has entered already.

    Attributes:
        forwards: samples sent through the model.
        gradients: samples whose input gradient was computed.
        zero_gradients: how many of these were zero throughout, so that no step could be taken.
        count_zeros: whether that is counted.
        classes: as many as the model distinguishes; known after :meth:`check`.
        on_progress: told the share of the present attack that is done, in [0, 1].
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = model
        self.forwards = 0
        self.gradients = 0
        self.zero_gradients = 0
        self.count_zeros = True
        self.classes = 0
        self.on_progress: Callable[[float], None] | None = None
        self._part = 0.0, 1.0  # where the present part of an attack begins, and its share
        self._depth = 0
        self._stack = ExitStack()

    @classmethod
    def of(cls, model: nn.Module | AttackedModel) -> AttackedModel:
        """The model itself if it is wrapped already, else a new wrapper."""
        return model if isinstance(model, AttackedModel) else cls(model)

    def __enter__(self) -> AttackedModel:
        """Freeze the model."""
        if self._depth == 0:
            with ExitStack() as stack:  # undone if a step of it fails
                self._freeze(stack)
                self._stack = stack.pop_all()
        self._depth += 1
        return self

    def _freeze(self, stack: ExitStack) -> None:
        modes = [(module, module.training) for module in self.module.modules()]
        trained = [p for p in self.module.parameters() if p.requires_grad]
        matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
        precisions = [(backend, backend.fp32_precision) for backend in (matmul, conv)]

        def restore() -> None:
            for module, training in modes:
                module.training = training  # not .train(): modules may be in different modes
            for parameter in trained:
                parameter.requires_grad_(True)
            for backend, precision in precisions:
                backend.fp32_precision = precision

        stack.callback(restore)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        self.module.eval()
        for parameter in trained:
            parameter.requires_grad_(False)
        for backend, _ in precisions:
            backend.fp32_precision = "ieee"  # no TF32

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the model."""
        self._depth -= 1
        if self._depth == 0:
            self._stack.pop_all().close()

    @property
    def device(self) -> torch.device | None:
        """Where the model is; None for one without parameters and buffers."""
        tensors = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((tensor.device for tensor in tensors), None)

    def place(self, tensor: Tensor) -> Tensor:
        """A copy on the model's device that can take part in autograd."""
        # An inference tensor cannot, and no caller's tensor may be changed.
        return tensor.detach().clone().to(self.device or tensor.device)

    def check(self, x: Tensor, y: Tensor) -> None:
        """Check labels, and what the model makes of one input; not counted as a forward.

        Raises:
            UserError: outputs that are not logits (B, C), labels that do not fit them or ``x``.
        """
        with torch.no_grad():
            logits = self.module(x[:1])
        if not isinstance(logits, Tensor):
            raise UserError(
                f"the model returns {type(logits).__name__}; it must return logits (B, C)"
            )
        if len(y) != len(x):
            raise UserError(f"{len(x)} inputs and {len(y)} labels; give as many of each")
        check_shapes(logits.expand(len(x), *logits.shape[1:]), y)
        self.classes = logits.shape[1]
        check_values(torch.zeros_like(logits).expand(len(x), -1), y)  # the labels' range alone

    def report(self, share: float) -> None:
        """Tell whoever watches how far the present attack is."""
        if self.on_progress is not None:
            begin, length = self._part
            self.on_progress(begin + length * share)

    @contextmanager
    def part(self, number: int, of: int) -> Iterator[None]:
        """Within it, reports are of one of several equal parts of an attack."""
        begin, length = outer = self._part
        self._part = begin + length * number / of, length / of
        try:
            yield
        finally:
            self._part = outer

    def wrong(self, logits: Tensor, y: Tensor) -> Tensor:
        """Which samples are misclassified, bool, shape (B,); NaN and inf classify nothing."""
        return (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)

    def logits(self, x: Tensor) -> Tensor:
        """Logits of a batch, shape (B, C), without a graph."""
        self.forwards += len(x)
        with torch.no_grad():
            return self.module(x)

    def gradient(self, x: Tensor, y: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient of the loss with respect to the inputs, the logits, and the loss, shape (B,).

        Args:
            x: inputs, shape (B, ...).
            y: labels, shape (B,).
            loss: gives one value a sample.

        Raises:
            NoGradientError: autograd cannot follow from the output back to the input.
        """
        self.forwards += len(x)
        self.gradients += len(x)
        x = x.detach().requires_grad_()
        with _model_errors("forward"):
            logits = self.module(x)
        if not logits.requires_grad:
            raise NoGradientError(
                "the model's output carries no gradient with respect to its input (does it run "
                "under no_grad, or detach?); gradient attacks need one"
            )
        # Each sample's loss depends on its own input alone, so the sum has every gradient.
        values = loss(logits, y)
        with _model_errors("backward"):
            (gradient,) = torch.autograd.grad(values.sum(), x)
        if self.count_zeros:  # waits for the device
            self.zero_gradients += int((gradient.flatten(1).abs().amax(1) == 0).sum())
        return gradient, logits.detach(), values.detach()


@contextmanager
def _model_errors(which: str) -> Iterator[None]:
    """What a model's own code raises while gradients are recorded means that it gives none."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the user's code can raise anything
        detail = " ".join(str(error).split())[:150]
        raise NoGradientError(f"the model's {which} pass failed: {detail}") from error

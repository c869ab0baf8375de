"""A stand-in for a model whose gradients are of no use: the same answers, another backward pass.

Backward-pass differentiable approximation (Athalye et al. 2018), found without knowing the model:
where a step of it lets no gradient through, that step counts as the identity on the way back.
What is crafted on the stand-in is judged on the model itself, so a bad guess costs time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustpolicy.attacks.losses import margin
from robustpolicy.evaluation.audit.thresholds import GRADIENT_SHARE

#: Steps and saturating functions that keep the shape: the identity on the way back.
STEPS = {
    function
    for name in ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "sigmoid", "tanh",
                 "clamp", "clip", "softmax", "heaviside")
    for function in (getattr(torch, name, None), getattr(Tensor, name, None),
                     getattr(nn.functional, name, None))
    if function is not None
} | {nn.functional.hardtanh, nn.functional.relu6}  # fmt: skip
#: Comparisons, with the sign of the stand-in for their first argument.
COMPARISONS = {
    getattr(where, name): sign
    for name, sign in (("gt", 1), ("ge", 1), ("lt", -1), ("le", -1))
    for where in (torch, Tensor)
} | {
    getattr(Tensor, f"__{name}__"): sign
    for name, sign in (("gt", 1), ("ge", 1), ("lt", -1), ("le", -1))
}
CASTS = {Tensor.float, Tensor.to, Tensor.type, Tensor.double, Tensor.int, Tensor.long, Tensor.byte}


class Smooth(TorchFunctionMode):
    """Within it, steps, comparisons, casts and ``detach`` pass gradients straight through."""

    def __init__(self) -> None:
        super().__init__()
        self._soft: dict[int, tuple[Tensor, Tensor]] = {}  # id -> (a hard tensor, its stand-in)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch, or what stands in for it."""
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func is torch._C._set_grad_enabled:  # a model's own no_grad
            return None
        if not isinstance(first, Tensor):
            return func(*args, **kwargs)
        if func is Tensor.detach:
            return first
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out
        soft = first if first.requires_grad else self._soft.get(id(first), (None, None))[1]
        if soft is None:
            return out
        if func in COMPARISONS and len(args) > 1:
            self._soft[id(out)] = out, COMPARISONS[func] * (soft - args[1])
        elif (func in STEPS or func in CASTS) and out.shape == soft.shape:
            if not out.is_floating_point():
                self._soft[id(out)] = out, soft
            elif func in STEPS or not first.is_floating_point():
                return _straight(out, soft)
        return out


class StandIn(nn.Module):
    """A model with gradients where the original has none.

    Args:
        model: the original; not changed.
        x: a few inputs on which to look for where the gradients end.
        y: their labels.
        distrust: gradients are there but wrong: go around whatever comes before the first module
            that takes an input of the image's shape.
        inside: take the logits from where a module inside says the same classes; else the end.
        smooth: let steps that are no modules pass gradients; off for a model that cannot be run so
            (one that goes through numpy, say).
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        distrust: bool = False,
        inside: bool = True,
        smooth: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self._smooth = smooth
        self._through: set[nn.Module] = set()  # the identity on the way back
        self._entry: nn.Module | None = None  # what comes before it counts as the identity
        self._logits: nn.Module | None = None  # whose output is taken for the logits
        with torch.enable_grad():
            self._logits = self._find_logits(x) if inside else None
            if distrust:
                self._entry = self._first_inside(x)
            for _ in range(10):
                if not self._open_one(x, y):
                    break

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C): those from before what hides them, if there are such."""
        taken: list[Tensor] = []

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            if module is self._entry:
                (u, *rest) = inputs
                return (_straight(u, x), *rest)
            return None

        def leave(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> Any:
            if module in self._through:
                out = _straight(out, inputs[0])
            if module is self._logits:
                taken.append(out)
            return out

        with self._hooks(enter, leave), Smooth() if self._smooth else nullcontext():
            out = self.model(x)
        return taken[-1] if taken else out

    @property
    def changed(self) -> bool:
        """Whether anything was found to stand in for."""
        return bool(self._through) or self._entry is not None or self._logits is not None

    @contextmanager
    def _hooks(self, enter: Callable[..., Any], leave: Callable[..., Any]) -> Iterator[None]:
        handles = []
        for module in self.model.modules():
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _find_logits(self, x: Tensor) -> nn.Module | None:
        """The first module inside whose output says the same classes as the model."""
        found: list[tuple[nn.Module, Tensor]] = []

        def leave(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, Tensor) and module is not self.model:
                found.append((module, out.detach()))

        with self._hooks(lambda *_: None, leave), torch.no_grad():
            final = self.model(x)
        for module, out in found:
            alike = out.shape == final.shape and out.is_floating_point()
            if alike and bool((out.argmax(1) == final.argmax(1)).all()):
                return module
        return None

    def _first_inside(self, x: Tensor) -> nn.Module | None:
        """The first module inside that takes something of the input's shape."""
        found: list[nn.Module] = []

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            first = inputs[0] if inputs else None
            if module is not self.model and isinstance(first, Tensor) and first.shape == x.shape:
                found.append(module)

        with self._hooks(enter, lambda *_: None), torch.no_grad():
            self.model(x)
        return found[0] if found else None

    def _open_one(self, x: Tensor, y: Tensor) -> bool:
        """Find the last place where the gradient ends, and let it through; False if none is."""
        seen: list[tuple[nn.Module, Tensor, Tensor]] = []
        x = x.detach().clone().requires_grad_()

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            u = inputs[0] if inputs else None
            if not isinstance(u, Tensor) or not u.is_floating_point() or module is self.model:
                return None
            with torch._C.DisableTorchFunction():  # not `Smooth`, which ignores detach
                if not u.requires_grad:
                    u = u.detach().requires_grad_()
                elif u is not x:
                    u.retain_grad()
            return (u, *inputs[1:])

        def leave(module: nn.Module, inputs: tuple[Any, ...], out: Any) -> None:
            if inputs and isinstance(out, Tensor) and module is not self.model:
                seen.append((module, inputs[0], out))
                if out.requires_grad and not out.is_leaf:
                    out.retain_grad()

        with self._hooks(enter, leave):
            out = self.forward(x)
        if not out.requires_grad:
            return False
        margin(out, y).sum().backward()  # type: ignore[no-untyped-call]
        if _share_alive(x) >= GRADIENT_SHARE:
            return False
        for module, u, v in reversed(seen):
            if module in self._through or not _share_alive(v) >= GRADIENT_SHARE:
                continue
            if _share_alive(u) < GRADIENT_SHARE and u.shape == v.shape:
                self._through.add(module)
                return True
        for module, u, _ in seen:
            if u is not x and u.shape == x.shape and _share_alive(u) >= GRADIENT_SHARE:
                self._entry, fresh = module, self._entry is not module
                return fresh
        return False


def _straight(value: Tensor, path: Tensor) -> Tensor:
    """A value on the way forth, the identity of ``path`` on the way back."""
    with torch._C.DisableTorchFunction():  # `Smooth` may be on, which ignores detach
        return value.detach() + (path - path.detach()).to(value.dtype)


def _share_alive(tensor: Tensor) -> float:
    """Share of samples whose gradient is not zero throughout."""
    if tensor.grad is None:
        return 0.0
    return float((tensor.grad.flatten(1).abs().amax(1) > 0).double().mean())

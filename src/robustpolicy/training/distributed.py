"""Several processes that train one model, each on its rows of every batch (``torchrun``)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from robustpolicy.errors import UserError


class Group:
    """The processes of one training; alone, each of its methods does nothing.

    Attributes:
        rank: number of this process.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def leader(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This process's rows of a batch; the parts differ by one at most."""
        return slice(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one dtype by their sums over the processes."""
        if self.size == 1:
            return
        # One message: many small ones wait for each other.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, mine: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return mine
        flag = torch.tensor(int(mine), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag)
        return bool(flag)

    def share(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """The leader's plain data and tensors, on the CPU, in every process."""
        if self.size == 1:
            assert state is not None
            return state
        packed: list[bytes | None] = [None]
        if self.leader:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            packed = [buffer.getvalue()]
        dist.broadcast_object_list(packed)
        assert packed[0] is not None
        return torch.load(io.BytesIO(packed[0]), map_location="cpu", weights_only=True)


@contextmanager
def join(device: torch.device) -> Iterator[Group]:
    """The group that ``torchrun`` has started this process in; one process alone without it.

    Raises:
        UserError: a device that several processes cannot share a training on.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Group()
        return
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"several processes cannot train on {device.type}; use cpu or cuda")
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        if ours:
            dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: with CUDA and ``torchrun``, each has a GPU of its own."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return device

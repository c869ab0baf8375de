"""One evaluation over several processes or GPUs: the samples are split, the flags joined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustpolicy.evaluation.judge import Progress, silent
from robustpolicy.evaluation.plan import Plan
from robustpolicy.evaluation.result import Evaluation, merge
from robustpolicy.evaluation.target import load_target
from robustpolicy.training.pool import tell
from robustpolicy.training.processes import run_processes


def evaluate_in_workers(
    target: Sequence[str | int | None],
    plan: Plan,
    chosen: Tensor,
    *,
    workers: int,
    device: torch.device,
    data_dirs: Sequence[str | Path] = (),
    progress: Progress | None = None,
    state: Path | None = None,
    about: dict[str, Any] | None = None,
) -> Evaluation:
    """Evaluate a target on the chosen samples, each process a share of them.

    All randomness is keyed by sample or drawn once an iteration from the seed, so the flags are
    those of one process, up to the rounding that the composition of a batch causes.

    Args:
        target: arguments of :func:`load_target`; every process loads it anew.
        plan: threat, attacks, seed.
        chosen: indices of the samples in the test split.
        workers: processes; on a GPU, each takes the next one.
        device: the CPU, or any GPU.
        data_dirs: folders to look for the data in first.
        progress: called with sums over the processes.
        state: folder of the batches, one below it for each process.
        about: kept beside the state.

    Raises:
        UserError: the first error of a process.
    """
    shards = [shard for shard in chosen.tensor_split(workers) if len(shard)]
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    jobs = []
    for number, shard in enumerate(shards):
        place = f"cuda:{number % count}" if device.type == "cuda" else device.type
        folder = state and state / f"shard-{number + 1}-of-{len(shards)}"
        jobs.append((tuple(target), plan, shard, place, tuple(data_dirs), folder, about))
    seen: dict[str, dict[int, tuple[float, int]]] = {}

    def listen(number: int, message: tuple[str, float, int]) -> None:
        name, done, total = message
        seen.setdefault(name, {})[number] = done, total
        if len(seen[name]) < len(shards):
            return  # before every process has said how much it has to do
        sums = [sum(values) for values in zip(*seen[name].values(), strict=True)]
        (progress or silent)(name, sums[0], int(sums[1]))

    names = [f"worker {number + 1}" for number in range(len(shards))]
    return merge(run_processes(_work, jobs, names=names, workers=len(shards), listen=listen))


def _work(
    target: tuple[Any, ...],
    plan: Plan,
    shard: Tensor,
    place: str,
    data_dirs: Sequence[str | Path],
    state: Path | None,
    about: dict[str, Any] | None,
) -> Evaluation:
    if place == "cpu":
        torch.set_num_threads(1)
    loaded = load_target(*target)
    dataset = loaded.load(data_dirs)

    def progress(name: str, done: float, total: int) -> None:
        tell((name, done, total))

    return plan.evaluate(loaded.model.to(place), dataset, shard, progress, state, about)

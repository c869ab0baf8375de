"""Runs that share their first epochs: train these once, and go on from them in several ways."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustpolicy.errors import UserError
from robustpolicy.training.files import write_json
from robustpolicy.training.recipe import CrossEntropy, Recipe, TwoStage

if TYPE_CHECKING:
    from robustpolicy.training.run import Run
    from robustpolicy.training.state import State


def prefix_of(recipe: Recipe) -> Recipe | None:
    """The recipe of what a run does before its second stage: equal for all that can share it.

    Whatever matters in the second stage alone takes its default. None where there is no first
    stage, or where the loss has options beyond the paper's, which may matter from the start (a
    critic has weights). Cross-entropy throughout can go on from the prefix of a cross-entropy
    warm-up too, see :func:`continues`; but alone it has none.
    """
    loss = recipe.loss
    if not isinstance(loss, TwoStage) or loss.warmup == "none":
        return None
    neutral = TwoStage(
        reward=loss.reward,
        warmup=loss.warmup,
        warmup_penalty=loss.warmup_penalty,
        warmup_actions=loss.warmup_actions,
        threshold=loss.threshold,
        switch_epoch=loss.switch_epoch,
    )
    if dataclasses.replace(neutral, penalty=loss.penalty, actions=loss.actions) != loss:
        return None
    if loss.warmup == "cross-entropy":
        neutral = TwoStage(
            warmup=loss.warmup, threshold=loss.threshold, switch_epoch=loss.switch_epoch
        )
    return dataclasses.replace(recipe, loss=neutral)


def continues(prefix: Recipe, recipe: Recipe) -> bool:
    """Whether a run of ``recipe`` begins with the very epochs that ``prefix`` stands for."""
    if isinstance(recipe.loss, CrossEntropy):
        first = prefix.loss
        same = dataclasses.replace(prefix, loss=recipe.loss) == recipe
        return same and isinstance(first, TwoStage) and first.warmup == "cross-entropy"
    return prefix_of(recipe) == prefix


def in_second_stage(state: State) -> bool:
    """Where a prefix ends: what ``train(..., until=...)`` takes."""
    return state.stage == 2


def prefix_complete(prefix: Run) -> bool:
    """Whether a prefix has come to its end: the second stage, or the last epoch without one."""
    if prefix.done:
        return True
    checkpoint = prefix.load_checkpoint()
    return checkpoint is not None and _stage(checkpoint) == 2 and checkpoint["step"] == 0


def fork(prefix: Run, recipe: Recipe, output: str | Path) -> Run:
    """Begin a run where a prefix ended: weights, optimiser, buffers, random streams, history.

    ``train(recipe, output)`` goes on from there, and on a CPU ends bit-identical to a run that was
    trained from its first epoch. A run that has a checkpoint already is left as it is.

    Args:
        prefix: a complete prefix, see :func:`prefix_complete`.
        recipe: what is to be trained.
        output: its run folder; made if need be.

    Raises:
        UserError: a prefix of another recipe or not at its end, or a folder with another run.
    """
    if not continues(prefix.recipe, recipe):
        raise UserError(f"{prefix.path} is no beginning of this recipe; train it from its start")
    if not prefix_complete(prefix):
        raise UserError(f"{prefix.path} has not reached its second stage; train it to there first")
    with type(prefix).claim(output, recipe) as run:
        if run.done or (run.path / "checkpoint.pt").exists():
            return run
        state = prefix.load_checkpoint()
        assert state is not None
        environment = prefix.environment()
        environment["forked"] = {"from": prefix.recipe.id, "epochs": state["epoch"]}
        write_json(run.path / "environment.json", environment)
        best = prefix.path / "best.safetensors"
        if best.exists():
            shutil.copyfile(best, run.path / best.name)
        run.save_checkpoint(_translate(state, recipe))  # last: it decides what a resumed run does
    return run


def _translate(state: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The checkpoint as the recipe's own loss has it: cross-entropy knows no stages."""
    if not isinstance(recipe.loss, CrossEntropy):
        return state
    history = [{k: v for k, v in one.items() if k != "stage"} for one in state["history"]]
    return {**state, "loss": {}, "history": history}


def _stage(checkpoint: dict[str, Any]) -> int:
    """Stage of a two-stage loss in a checkpoint."""
    return int(checkpoint["loss"]["_extra_state"].reshape(-1)[0])

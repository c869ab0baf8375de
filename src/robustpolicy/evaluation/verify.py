"""Checking a stored evaluation: every example against the model, the ball and the range."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.data import to_float
from robustpolicy.errors import UserError
from robustpolicy.evaluation.layout import arrange
from robustpolicy.evaluation.store import digest, model_digest, stored_batches
from robustpolicy.evaluation.target import load_target


@dataclass
class Verified:
    """What a check found.

    Attributes:
        examples: adversarial examples looked at.
        outside: how many break the threat model.
        correct: how many the model classifies correctly after all.
        complaints: anything else that is wrong, in words.
    """

    examples: int = 0
    outside: int = 0
    correct: int = 0
    complaints: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        """Whether every example is what it claims to be."""
        return not (self.outside or self.correct or self.complaints)


def verify(
    folder: str | Path, device: torch.device, data_dirs: Sequence[str | Path] = ()
) -> Verified:
    """Check every stored example of an evaluation.

    Args:
        folder: its state, or the state of several workers.
        device: where to run the model.
        data_dirs: folders to look for the data in first.

    Raises:
        UserError: a folder without an evaluation, or one that does not name its target.
    """
    states = sorted(Path(folder).glob("**/state.json"))
    if not states:
        raise UserError(f"{folder} holds no evaluation: there is no state.json in it")
    found = Verified()
    for state in states:
        _verify_one(state, device, data_dirs, found)
    return found


def _verify_one(
    state: Path, device: torch.device, data_dirs: Sequence[str | Path], found: Verified
) -> None:
    try:
        kept = json.loads(state.read_text())
        target = kept["about"]["target"]
        threat = Threat(**kept["threat"])
        indices = torch.tensor(kept["indices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{state} does not say what it evaluated ({error})") from None
    loaded = load_target(*target)
    if model_digest(loaded.model) != kept["model"]:
        found.complaints += (f"{state.parent}: {target[0]} has other weights now",)
    dataset = loaded.load(data_dirs)
    if int(indices.max()) >= len(dataset.test_labels):
        found.complaints += (f"{state.parent}: {loaded.dataset} has fewer test images now",)
        return
    x = to_float(dataset.test_images[indices]).to(device)
    y = dataset.test_labels[indices].to(device)
    train = (dataset.train_images, dataset.train_labels) if "audit" in kept else ()
    if digest(x, y, indices, *train) != kept.get("data"):
        found.complaints += (f"{state.parent}: {loaded.dataset} has other images or labels now",)
    x = arrange(loaded.model.to(device), x)
    with AttackedModel(loaded.model) as model:
        for _, batch in stored_batches(state.parent):
            if not len(batch.x_adv):
                continue
            places = batch.places[~batch.robust].to(device)
            x_adv = batch.x_adv.to(device)
            found.examples += len(places)
            found.outside += int((~threat.verify(x[places], x_adv)).sum())
            if not kept.get("random"):  # one pass says little about what fools on average
                found.correct += int((~model.wrong(model.logits(x_adv), y[places])).sum())

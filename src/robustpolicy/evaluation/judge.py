"""Running one attack over many samples: batches, verification, state, memory."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustpolicy.attacks import AttackedModel, AutoAttack, Threat
from robustpolicy.errors import UserError
from robustpolicy.evaluation.result import AttackResult, describe
from robustpolicy.evaluation.store import Batch, Store
from robustpolicy.randomness import derive_seed

#: Called with (attack, samples done, samples in all); within a batch, samples count in part.
Progress = Callable[[str, float, int], None]
#: Seconds between two reports from within a batch.
INTERVAL = 0.5


def silent(attack: str, done: float, total: int) -> None:
    """Progress for those who do not watch."""


@dataclass
class Judge:
    """Runs attacks on the samples of one evaluation.

    Attributes:
        model: entered already.
        x: inputs, shape (N, ...); each batch goes to the model's device.
        y: labels, shape (N,).
        threat: ball and range.
        seed: seed of the attacks' randomness.
        indices: index of each sample in its data set, shape (N,).
        batch_size: samples a batch; halved where memory runs out.
        progress: called after each batch.
        store: where batches are kept and found again; None keeps nothing.
        referee: says in the model's place whether an example fools; for random outputs.
        cautious: outputs may be random. Seed torch's global generator, which the caller has forked,
            before each batch, so that a resumed run finds the same; judge every example twice.
        unsteady: examples on which two judgements differed.
    """

    model: AttackedModel
    x: Tensor
    y: Tensor
    threat: Threat
    seed: int
    indices: Tensor
    batch_size: int
    progress: Progress = silent
    store: Store | None = None
    referee: AttackedModel | None = None
    cautious: bool = False
    unsteady: int = 0

    def run(self, attack: Any, name: str, standing: Tensor) -> AttackResult:
        """Attack the samples that stand: bool, shape (N,). A sequence goes on with survivors."""
        if not isinstance(attack, AutoAttack):
            return self._run_one(attack, name, standing)
        members: list[AttackResult] = []
        for number, member in enumerate(attack.members):
            label = f"{name}-{number}-{member.name}" if self.store else member.name
            result = self._run_one(member, label, standing)
            members.append(dataclasses.replace(result, name=member.name))
            standing = result.robust
        total = {
            field: sum(getattr(member, field) for member in members)
            for field in ("seconds", "forwards", "gradients", "zero_gradients")
        }
        config = describe(attack)
        return AttackResult(name, standing, config, members=tuple(members), **total)

    def _run_one(self, attack: Any, name: str, standing: Tensor) -> AttackResult:
        robust = standing.clone()
        todo = standing.nonzero()[:, 0]
        counts, seconds = torch.zeros(3, dtype=torch.int64), 0.0
        for number, first in enumerate(range(0, len(todo), self.batch_size)):
            places = todo[first : first + self.batch_size]
            batch = self.store.load(name, number) if self.store else None
            if batch is None or not torch.equal(batch.places, places):
                self._watch(name, first, len(places), len(todo))
                batch = self._attack(attack, name, places)
                if self.store:
                    self.store.save(name, number, batch)
            robust[places] = batch.robust
            counts += batch.counts
            seconds += float(batch.seconds)
            self.progress(name, first + len(places), len(todo))
        return AttackResult(name, robust, describe(attack), seconds, *counts.tolist())

    def _watch(self, name: str, done: int, here: int, total: int) -> None:
        """Report how far the model's attack on the next batch is, but not at every step."""
        last = time.perf_counter()
        self.progress(name, done, total)

        def on_progress(share: float) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last >= INTERVAL:
                last = now
                self.progress(name, done + share * here, total)

        self.model.on_progress = on_progress

    def _attack(self, attack: Any, name: str, places: Tensor) -> Batch:
        """Attack one batch; in halves if it does not fit into memory."""
        try:
            return self._attack_whole(attack, name, places)
        except torch.OutOfMemoryError:
            if len(places) == 1:
                raise UserError(
                    f"attack {name} does not fit into the device's memory even for one sample; use "
                    "--device cpu"
                ) from None
        torch.cuda.empty_cache()
        middle = (len(places) + 1) // 2
        halves = [self._attack(attack, name, part) for part in (places[:middle], places[middle:])]
        self.batch_size = min(self.batch_size, middle) if self.store is None else self.batch_size
        joined = {
            field: torch.cat([getattr(half, field) for half in halves])
            for field in ("places", "robust", "x_adv")
        }
        counts = halves[0].counts + halves[1].counts
        return Batch(**joined, counts=counts, seconds=halves[0].seconds + halves[1].seconds)

    def _attack_whole(self, attack: Any, name: str, places: Tensor) -> Batch:
        if self.cautious:
            torch.manual_seed(derive_seed(self.seed, name, *places[:1].tolist()))
        begun, before = time.perf_counter(), self._counts()
        here = places.to(self.x.device)
        clean, labels = self.model.place(self.x[here]), self.model.place(self.y[here])
        indices = self.indices[places]
        x_adv = attack(self.model, clean, labels, self.threat, seed=self.seed, indices=indices)
        if not isinstance(x_adv, Tensor) or x_adv.shape != clean.shape:
            raise UserError(f"attack {name} did not return a tensor of shape {tuple(clean.shape)}")
        valid = self.threat.verify(clean, x_adv)
        if not bool(valid.all()):
            raise UserError(
                f"attack {name} left its threat model on {int((~valid).sum())} of {len(places)} "
                "samples; its result does not count, so the evaluation stops"
            )
        # Judged anew on the final examples: an attack's own word is not taken.
        wrong = self._fooled(x_adv, labels)
        if self.cautious:
            again = self._fooled(x_adv, labels)
            self.unsteady += int((wrong != again).sum())
            wrong &= again
        return Batch(
            places,
            (~wrong).cpu(),
            x_adv[wrong].detach().cpu(),
            self._counts() - before,
            torch.tensor(time.perf_counter() - begun, dtype=torch.float64),
        )

    def _fooled(self, x_adv: Tensor, labels: Tensor) -> Tensor:
        model = self.referee or self.model
        return model.wrong(model.logits(x_adv), labels)

    def _counts(self) -> Tensor:
        model = self.model
        return torch.tensor([model.forwards, model.gradients, model.zero_gradients])

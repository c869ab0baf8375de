"""A small grid on digits, and an engine that runs jobs where it is called."""

import dataclasses

from robustpolicy.experiments.engines import Outcome
from robustpolicy.experiments.paper import Experiment, Measure, Row
from robustpolicy.training import get_recipe
from robustpolicy.training.recipe import TwoStage

BASE = dataclasses.replace(get_recipe("digits-policy").with_epochs(3), batch_size=128)
MEASURES = (Measure("clean", "clean", "clean", 0.1), Measure("fgsm", "FGSM", "fgsm", 0.1))


def cell(first, second):
    loss = TwoStage(penalty=second, warmup_penalty=first, switch_epoch=1)
    recipe = dataclasses.replace(BASE, loss=loss)
    return Row(f"policy-{first:g}-{second:g}", f"({first:g}, {second:g})", recipe, MEASURES,
               {"clean": "99.1", "fgsm": "50.0"}, (first, second))  # fmt: skip


#: Two first stages, four cells.
GRID = Experiment(
    "grid",
    "A small grid",
    "",
    tuple(cell(first, second) for first in (0.1, 1.0) for second in (0.1, 1.0)),
    runs=2,
    grid=True,
)


class Here:
    """Runs jobs one after another, in the order of their needs, each tried twice."""

    def __init__(self):
        self.names = []

    def run(self, jobs, *, tick=lambda: None, on_outcome=lambda outcome: None):
        outcomes = {}
        waiting = list(jobs)
        while waiting:
            job = next(job for job in waiting if all(need in outcomes for need in job.needs))
            waiting.remove(job)
            outcomes[job.name] = self.one(job, outcomes)
            on_outcome(outcomes[job.name])
            tick()
        return [outcomes[job.name] for job in jobs]

    def one(self, job, outcomes):
        broken = [need for need in job.needs if outcomes[need].error]
        if broken:
            return Outcome(job.name, error=f"needs {broken[0]}, which failed")
        for attempt in (1, 2):
            self.names.append(job.name)
            try:
                return Outcome(job.name, job.function(*job.arguments), attempts=attempt)
            except Exception as error:
                told = str(error)
        return Outcome(job.name, error=told, attempts=2)

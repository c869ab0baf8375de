"""A sweep in a process of its own: ENGINE FOLDER EPOCHS."""

import sys
from pathlib import Path

from robustpolicy.experiments.engines import Job, LocalEngine, RayEngine
from robustpolicy.training.signals import Interrupted
from tests.experiments.engines import jobs


def main(name, folder, epochs):
    engine = LocalEngine(2) if name == "local" else RayEngine(workers=2)
    cells = [Job(f"seed{n}", jobs.train_digits, (folder, n, int(epochs))) for n in range(3)]
    try:
        outcomes = engine.run(cells)
    except Interrupted as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signum)
    assert all(outcome.error is None for outcome in outcomes), outcomes
    Path(folder, "done").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])

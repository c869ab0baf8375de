"""``robustpolicy demo``: the main job on data that comes with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustpolicy.cli.parse import parse

#: Test images shown in the figure.
SHOWN = 10


@dataclass(frozen=True)
class Options:
    """Train LeNet5 on the embedded digits, with cross-entropy and in two stages; attack both with
    FGSM and PGD; print a table and draw a figure.

    Takes about a minute on two cores. The data set is too small and too easy to judge a method
    by; `robustpolicy reproduce mnist` is the real comparison.
    """

    output: Path = Path("runs/demo")
    """Folder for runs, results and the figure."""


def run(arguments: Sequence[str]) -> int:
    """Run the demo."""
    options = parse(Options, arguments, "demo")

    import torch

    from robustpolicy.cli.reproduce import Options as Sweep
    from robustpolicy.cli.reproduce import reproduce
    from robustpolicy.experiments.paper import EXPERIMENTS

    code = reproduce(
        [EXPERIMENTS["digits"]],
        Sweep("digits", seeds=1, output=options.output, known=(), device="cpu"),
    )
    if code:
        return code
    torch.set_num_threads(1)  # ten small images: more threads only wait for each other
    figure = options.output / "demo.png"
    _draw(options.output, figure)
    print(f"Curves and adversarial examples: {figure}")
    return 0


def _draw(output: Path, path: Path) -> None:
    from robustpolicy.data import load_dataset
    from robustpolicy.evaluation import paper_plan
    from robustpolicy.experiments.cells import plan_cells
    from robustpolicy.experiments.paper import EXPERIMENTS
    from robustpolicy.report.figures import demo_figure, save_figure
    from robustpolicy.training import Run

    dataset = load_dataset("digits")
    plan = paper_plan("digits")
    images = dataset.test_images[:SHOWN].float() / 255
    labels = dataset.test_labels[:SHOWN]
    attack = plan.attacks[-1]
    histories, examples = {}, {}
    for cell in plan_cells(EXPERIMENTS["digits"], [0], output):
        done = Run.open(cell.run)
        model = done.load_model()
        adversarial = attack(model, images, labels, plan.threat)
        predictions = model(adversarial).argmax(1)
        histories[cell.label] = done.history()
        examples[cell.label] = images, adversarial, labels, predictions
    save_figure(demo_figure(histories, examples, plan.threat.epsilon), path)

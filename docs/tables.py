"""Write the tables of README and docs/rl.md from results/, or check that they have not drifted.

    python docs/tables.py [--check]

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is an experiment.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from robustpolicy.experiments.paper import get_experiment
from robustpolicy.experiments.results import Summary, read_results
from robustpolicy.report.tables import Table, experiment_table

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/rl.md")
AUTOATTACK = re.compile(r"(<!-- autoattack -->\n).*?(<!-- end -->)", re.DOTALL)
ADVERSARIAL = re.compile(r"(<!-- adversarial -->\n).*?(<!-- end -->)", re.DOTALL)
AUDIT = re.compile(r"(<!-- audit -->\n).*?(<!-- end -->)", re.DOTALL)
SPEED = re.compile(r"(<!-- speed -->\n).*?(<!-- end -->)", re.DOTALL)
VARIANCE = re.compile(r"(<!-- variance -->\n).*?(<!-- end -->)", re.DOTALL)
TEACHER = re.compile(r"(<!-- reward model -->\n).*?(<!-- end -->)", re.DOTALL)
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(text: str) -> str:
    """The text with every table made anew."""
    text = BLOCK.sub(lambda found: found[1] + _table(found[2]) + "\n" + found[3], text)
    text = AUTOATTACK.sub(lambda found: found[1] + _autoattack() + "\n" + found[2], text)
    text = AUDIT.sub(lambda found: found[1] + _audit() + "\n" + found[2], text)
    text = ADVERSARIAL.sub(lambda found: found[1] + _adversarial() + "\n" + found[2], text)
    text = VARIANCE.sub(lambda found: found[1] + _variance() + "\n" + found[2], text)
    text = TEACHER.sub(lambda found: found[1] + _teacher() + "\n" + found[2], text)
    return SPEED.sub(lambda found: found[1] + _speed() + "\n" + found[2], text)


def _table(name: str) -> str:
    experiment = get_experiment(name)
    results = read_results(ROOT / "results", experiment)
    cells = [cell for row in results.values() for cell in row]
    seen = {
        f"{e['cpu'] if e['device'] == 'cpu' else e['device']}, {e['threads']} thread a process, "
        f"torch {e['torch']}"
        for e in (cell["environment"] for cell in cells)
    }
    minutes = sum(cell["training"]["seconds"] for cell in cells) / len(cells) / 60
    hardware = f"Trained on {'; '.join(sorted(seen))}; {minutes:.1f} minutes a training."
    return f"\n{experiment_table(experiment, results).markdown()}\n\n{hardware}\n"


def _autoattack() -> str:
    """Robust accuracy after each attack of the sequence, over seeds."""
    rows, some = [], {}
    for row in get_experiment("mnist").rows:
        cells = [json.loads(p.read_text()) for p in _autoattack_files(row.key)]
        if cells:
            rows.append((row.label, *_in_sequence(cells), str(len(cells))))
            some = cells[0]
    note = (
        f"Percent of {some['n']} random test images, eps {some['threat']['epsilon']:g}; "
        "AutoAttack standard, each column on what withstood the one before; mean over seeds "
        f"(least–greatest). {_where(some)}."
    )
    return f"\n{Table('', ('training', *SEQUENCE, 'seeds'), tuple(rows), (note,)).markdown()}\n"


def _adversarial() -> str:
    """The same of adversarially trained models, one seed each."""
    files = sorted((ROOT / "results" / "adversarial").glob("*.json"))
    kept = [json.loads(path.read_text()) for path in files]
    rows = tuple(
        (
            one["target"].removeprefix("runs/").split("-")[0],
            f"{one['threat']['epsilon']:g}",
            *_in_sequence([one]),
        )
        for one in kept
    )
    note = (
        f"Percent of {kept[0]['n']} random test images, one seed; AutoAttack standard, each column "
        f"on what withstood the one before. {_where(kept[0])}."
    )
    return f"\n{Table('', ('training', 'eps', *SEQUENCE), rows, (note,)).markdown()}\n"


#: Columns of an evaluation with PGD and AutoAttack.
SEQUENCE = ("clean", "PGD-40", "APGD-CE", "+ APGD-T", "+ FAB-T", "+ Square")


def _in_sequence(cells: list[dict]) -> list[str]:
    """Robust accuracy over seeds in these columns."""
    attacks = [cell["attacks"] for cell in cells]
    columns = [[a["clean"] for a in attacks], [a["pgd"] for a in attacks]]
    columns += [
        [a["autoattack"]["members"][member] for a in attacks]
        for member in ("apgd-ce", "apgd-t", "fab-t", "square")
    ]
    return [
        str(Summary(tuple(100 * entry["robust_accuracy"] for entry in column)))
        for column in columns
    ]


def _where(result: dict) -> str:
    return f"{result['environment']['cpu']}, torch {result['environment']['torch']}"


def _autoattack_files(key: str) -> list[Path]:
    return sorted((ROOT / "results" / "autoattack").glob(f"{key}-seed*.json"))


def _audit() -> str:
    """Verdicts of the audited models."""
    kept = [
        json.loads(path.read_text()) for path in sorted((ROOT / "results/audit").glob("*.json"))
    ]
    rows = []
    for one in kept:
        failed = [check["name"] for check in one["checks"] if check["passed"] is False]
        low, high = (f"{100 * bound:.1f}" for bound in one["interval"])
        rows.append(
            (
                f"{one['target'].removeprefix('runs/')}, eps {one['threat']['epsilon']:g}",
                f"{100 * one['clean_accuracy']:.1f}",
                f"{100 * _after(one, 'fgsm'):.1f}",
                f"{100 * one['claim']:.1f}",
                f"{100 * one['robust_accuracy']:.1f} ({low}–{high})",
                one["verdict"],
                ", ".join(failed) or "none",
            )
        )
    heading = ("model", "clean", "FGSM", "PGD-40", "worst case", "verdict", "checks that fail")
    first = kept[0]
    note = (
        f"Percent of {first['n']} random test images; budget {first['budget']}; the claim is "
        f"PGD-40's own number; Wilson interval. {first['environment']['cpu']}, torch "
        f"{first['environment']['torch']}."
    )
    return f"\n{Table('', heading, tuple(rows), (note,), words=(0, 5, 6)).markdown()}\n"


def _after(audit: dict, attack: str) -> float:
    return audit["attacks"][attack]["robust_accuracy"]


def _variance() -> str:
    """Variance of the sampled gradient under each baseline."""
    kept = json.loads((ROOT / "results/rl/variance.json").read_text())
    heading = ("baseline", *(f"after {row['steps']} steps" for row in kept["rows"]))
    accuracy = (
        "accuracy of the batch, %",
        *(f"{100 * row['accuracy']:.1f}" for row in kept["rows"]),
    )
    rows = [
        (name, *(f"{row['ratios'][name]:.2f}" for row in kept["rows"]))
        for name in kept["rows"][0]["ratios"]
    ]
    note = (
        f"Mean squared distance from the exact gradient over that of one draw without a baseline; "
        f"{kept['draws']} draws, one batch of {kept['batch']}. {_without_load(kept['machine'])}."
    )
    return f"\n{Table('', heading, (accuracy, *rows), (note,)).markdown()}\n"


def _teacher() -> str:
    """Clean accuracy of students that saw no labels."""
    kept = json.loads((ROOT / "results/rl/reward-model.json").read_text())
    rows = tuple(
        (name, str(Summary(tuple(100 * value for value in values))), str(len(values)))
        for name, values in kept["clean"].items()
    )
    note = (
        "Clean accuracy, percent of all test images; mean over seeds (least to greatest). "
        f"{_without_load(kept['machine'])}."
    )
    return f"\n{Table('', ('training', 'clean', 'seeds'), rows, (note,)).markdown()}\n"


def _without_load(machine: str) -> str:
    return re.sub(r", load [0-9.]+", "", machine)


def _speed() -> str:
    """Ratios of the benchmarks, and the machines they were taken on."""
    kept = [json.loads(p.read_text()) for p in sorted((ROOT / "results/benchmarks").glob("*.json"))]
    rows = tuple(
        (row["what"], f"{row['ratio']:.2f}", row["aim"] + ("" if _reached(row) else " (missed)"))
        for one in kept
        for row in one["rows"]
    )
    notes = tuple(sorted({_without_load(one["machine"]) for one in kept}))
    return f"\n{Table('', ('what', 'ratio', 'aim'), rows, notes).markdown()}\n"


def _reached(row: dict) -> bool:
    bound = float(row["aim"].split()[-1])
    return row["ratio"] <= bound if "most" in row["aim"] else row["ratio"] >= bound


def main() -> int:
    """Rewrite the pages, or compare."""
    drifted = 0
    for path in (ROOT / name for name in PAGES):
        text = path.read_text()
        made = render(text)
        if "--check" not in sys.argv[1:]:
            path.write_text(made)
        elif made != text:
            print(f"{path.name} does not match results/; run `make readme`", file=sys.stderr)
            drifted = 1
    return drifted


if __name__ == "__main__":
    sys.exit(main())

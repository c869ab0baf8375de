"""A comparison of runs as tables and sentences."""

from __future__ import annotations

from typing import Any

from robustpolicy.experiments.compare import WORST
from robustpolicy.report.tables import Table

#: A difference counts as shown where its adjusted p-value lies below this.
LEVEL = 0.05
NOTHING = "–"


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print what :func:`robustpolicy.experiments.compare.compare_runs` returns."""
    for make in (difference_table, curve_table, accuracy_table):
        make(comparison).print()
        print()
    for table in paired_tables(comparison):
        table.print()
    print("\n".join(["", *sentences(comparison)]))


def difference_table(comparison: dict[str, Any]) -> Table:
    """Fields of the recipes and environments that differ, a column a run."""
    recipes, environments = comparison["recipes"], comparison["environments"]
    fields = {
        **recipes["differ"],
        **{f"environment.{key}": values for key, values in environments["differ"].items()},
    }
    rows = tuple((key, *map(_value, values)) for key, values in fields.items())
    common = ", ".join(f"{key} {_value(value)}" for key, value in recipes["in_common"].items())
    notes = [f"In common: {common}."]
    if not recipes["differ"]:
        notes.insert(0, "The recipes are the same, seed included.")
    columns = ("field", *_names(comparison))
    return Table("What differs", columns, rows, tuple(notes), words=tuple(range(len(columns))))


def curve_table(comparison: dict[str, Any]) -> Table:
    """Loss and watched accuracy at a few epochs, a column a run."""
    histories = [run["history"] for run in comparison["runs"]]
    rows = [
        (f"epoch {epoch}", *(_point(history, epoch) for history in histories))
        for epoch in _milestones([len(history) for history in histories])
    ]
    rows.append(("best accuracy", *map(_best, histories)))
    if any("stage" in history[-1] for history in histories):
        begun = [run["second_stage_epoch"] for run in comparison["runs"]]
        rows.append(("second stage", *(f"epoch {e}" if e else NOTHING for e in begun)))
    rows.append(("seconds", *(f"{run['seconds']:.0f}" for run in comparison["runs"])))
    notes = [f"Training loss / accuracy % on {_watched(comparison)}."]
    if any(key.split(".")[0] in ("loss", "adversary") for key in comparison["recipes"]["differ"]):
        notes.append("Losses of different kinds do not compare.")
    return Table("Curves", ("", *_names(comparison)), tuple(rows), (" ".join(notes),))


def accuracy_table(comparison: dict[str, Any]) -> Table:
    """Robust accuracy and its Wilson interval, a row an attack, a column a run."""
    evaluations = [run["evaluation"] for run in comparison["runs"]]
    first = evaluations[0]
    rows = [
        (attack, *(_share(one["attacks"][attack]) for one in evaluations))
        for attack in first["attacks"]
    ]
    if any(one["attack"] == WORST for one in comparison["paired"]):
        rows.append((WORST, *(_share(one["worst_case"]) for one in evaluations)))
    threat = first["threat"]
    note = (
        f"{first['n']} of {first['dataset']}'s test images ({first['samples']}), the same for all; "
        f"{threat['norm']} eps {threat['epsilon']:g} in [{threat['low']:g}, {threat['high']:g}]; "
        "Wilson intervals, 95 %."
    )
    return Table("Robust accuracy, %", ("attack", *_names(comparison)), tuple(rows), (note,))


def paired_tables(comparison: dict[str, Any]) -> list[Table]:
    """Counts of samples, difference and test of each run against the first, a table a run."""
    paired = comparison["paired"]
    columns = ("attack", "both", "only A", "only B", "neither", "B - A", "95 %", "p", "Holm")
    tables = []
    for name in _names(comparison)[1:]:
        own = [one for one in paired if one["run"] == name]
        rows = tuple(
            (
                one["attack"],
                *(str(one[key]) for key in ("both", "only_reference", "only_run", "neither")),
                f"{100 * one['difference']:+.2f}",
                _range(one["interval"]),
                _p(one["p"]),
                _p(one["p_holm"]),
            )
            for one in own
        )
        title = f"Robust samples, A = {own[0]['reference']}, B = {name}"
        tables.append(Table(title, columns, rows))
    note = (
        "Difference in points with Newcombe's interval for pairs (his method 10), each for itself; "
        f"p of McNemar's exact test, and Holm's over {_comparisons(len(paired))}. They speak of "
        "these trained models on such samples: other seeds of the recipes can differ by more."
    )
    last = tables[-1]
    tables[-1] = Table(last.title, last.columns, last.rows, (note,))
    return tables


def sentences(comparison: dict[str, Any]) -> list[str]:
    """What each pair comes to in the worst case (or under the only attack), in words."""
    last = {one["run"]: one for one in comparison["paired"]}
    return [_sentence(one) for one in last.values()]


def _sentence(one: dict[str, Any]) -> str:
    kind = {WORST: "in the worst case", "clean": "without an attack"}
    where = kind.get(one["attack"], f"under {one['attack']}")
    points = 100 * one["difference"]
    if one["p_holm"] >= LEVEL:
        return (
            f"{one['run']} and {one['reference']}: no difference shown {where} ({points:+.1f} "
            f"points, {_range(one['interval'], 1)}, {_said(one['p_holm'])})."
        )
    low, high = one["interval"]
    bounds = (low, high) if points > 0 else (-high, -low)
    return (
        f"{one['run']} is robust on {abs(points):.1f} points {'more' if points > 0 else 'fewer'} "
        f"than {one['reference']} {where} ({_range(bounds, 1)}), {_said(one['p_holm'])}."
    )


def _names(comparison: dict[str, Any]) -> list[str]:
    return [run["name"] for run in comparison["runs"]]


def _value(value: Any) -> str:
    """A field as its option takes it."""
    if value is None or value == []:
        return NOTHING
    if isinstance(value, list):
        return " ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _milestones(lengths: list[int]) -> list[int]:
    """A few epochs over the longest run, and the last one of each."""
    longest = max(lengths)
    return sorted({max(1, round(longest * quarter / 4)) for quarter in range(5)} | {*lengths})


def _point(history: list[dict[str, Any]], epoch: int) -> str:
    if epoch > len(history):
        return NOTHING
    record = history[epoch - 1]
    return f"{record['loss']:.4f} / {100 * record['watched_accuracy']:.2f}"


def _best(history: list[dict[str, Any]]) -> str:
    best = max(history, key=lambda record: record["watched_accuracy"])
    return f"{100 * best['watched_accuracy']:.2f} (epoch {best['epoch']})"


def _watched(comparison: dict[str, Any]) -> str:
    splits = {
        run["name"]: "test" if run["recipe"]["protocol"] == "paper" else "validation"
        for run in comparison["runs"]
    }
    if len(set(splits.values())) == 1:
        return f"the {splits.popitem()[1]} split"
    return "the split that training watched: " + ", ".join(f"{n} {s}" for n, s in splits.items())


def _share(result: dict[str, Any]) -> str:
    return f"{100 * result['robust_accuracy']:.2f} ({_range(result['interval'])})"


def _range(bounds: Any, digits: int = 2) -> str:
    low, high = (f"{100 * bound:.{digits}f}" for bound in bounds)
    return f"{low} to {high}"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "<1e-4"


def _said(p: float) -> str:
    return f"p {'=' if p >= 0.0001 else '<'} {max(p, 0.0001):.4f} after Holm"


def _comparisons(count: int) -> str:
    return f"all {count} comparisons" if count > 1 else "one comparison"

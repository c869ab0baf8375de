"""An experiment's tables in four formats, each read back: the paper's number, ours, interval, n."""

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from scipy import stats

from robustpolicy.evaluation import wilson
from robustpolicy.experiments.cells import plan_cells
from robustpolicy.experiments.measurements import measurements, paired_differences
from robustpolicy.experiments.paper import EXPERIMENTS, Measure
from robustpolicy.experiments.results import Results
from robustpolicy.experiments.variants import measured_part, variants
from robustpolicy.report.experiment_tables import claims_table, experiment_tables, long_table
from robustpolicy.report.export import export
from robustpolicy.report.overview import overview_table
from robustpolicy.report.tables import Table
from tests.experiments.cases import GRID

ROOT = Path(__file__).parent.parent.parent
#: Robust samples of 360, by (lambda_1, lambda_2), then by seed.
COUNTS = {
    (0.1, 0.1): (300, 310, 330), (0.1, 1.0): (200, 220, 230),
    (1.0, 0.1): (250,), (1.0, 1.0): (),
}  # fmt: skip


def result(recipe, robust, n=360, samples="all"):
    attack = {"robust_accuracy": robust / n, "config": {}, "seconds": 1.0}
    return {
        "recipe": recipe.to_json(),
        "environment": {"cpu": "one", "device": "cpu"},
        "training": {"seconds": 3.0, "loss": [3.0, 1.0, 2.0], "second_stage_epoch": 2},
        "evaluations": [
            {
                "n": n,
                "samples": samples,
                "threat": {"epsilon": 0.1, "norm": "Linf"},
                "attacks": {"clean": {**attack, "robust_accuracy": 1.0}, "fgsm": attack},
            }
        ],
    }


@pytest.fixture
def results(tmp_path):
    """Written and read back, as by a sweep."""
    for row in GRID.rows:
        for seed, robust in enumerate(COUNTS[row.place]):
            recipe = dataclasses.replace(row.recipe, seed=seed)
            path = tmp_path / "grid" / f"{row.key}-{seed}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(result(recipe, robust)))
    return Results(tmp_path)


def by_place(experiment, results, measure="fgsm"):
    records = measurements(experiment, results)
    return {(r.lambda_1, r.lambda_2): r for r in records if r.measure == measure}


def test_intervals_are_over_seeds_or_within_one(results):
    records = by_place(GRID, results)
    percent = [100 * count / 360 for count in COUNTS[0.1, 0.1]]
    several = records[0.1, 0.1]
    assert several.ours == pytest.approx(sum(percent) / 3)
    expected = stats.ttest_1samp(percent, 0).confidence_interval(0.95)
    assert (several.low, several.high) == pytest.approx(
        (max(0, expected.low), min(100, expected.high))
    )
    assert (several.interval, several.seeds, several.images) == ("t over seeds", (0, 1, 2), 360)
    one = records[1.0, 0.1]
    assert (one.low, one.high) == pytest.approx([100 * bound for bound in wilson(250, 360)])
    assert one.interval == "Wilson"
    nothing = records[1.0, 1.0]
    assert (nothing.ours, nothing.seeds, nothing.paper) == (None, (), "50.0")


def test_csv_has_a_row_a_measurement(results):
    rows = list(csv.DictReader(io.StringIO(export(GRID, results, "csv"))))
    assert len(rows) == 8
    for row in rows:
        record = by_place(GRID, results, row["measure"])[
            float(row["lambda_1"]), float(row["lambda_2"])
        ]
        assert row["paper"] == record.paper
        assert (float(row["ours"]) if row["ours"] else None) == record.ours
        assert len(row["seeds"].split()) == len(record.seeds)


def test_json_has_everything(results):
    data = json.loads(export(GRID, results, "json"))
    assert data["paper_runs"] == 2
    assert data["reduced"] == []
    back = {(m["row"], m["measure"]): m for m in data["measurements"]}
    for record in measurements(GRID, results):
        told = back[record.row, record.measure]
        assert told["ours"] == record.ours
        assert told["values"] == list(record.values)


def cells_of(matrix):
    """(paper, ours, low, high, n) of each cell of a matrix that was printed."""
    pattern = re.compile(r"([\d.]+) / (?:([\d.]+) \(([\d.]+)[–-]+([\d.]+); (\d+)\)|[–-]+)")
    found = {}
    for first, *cells in matrix:
        for second, cell in zip((0.1, 1.0), cells, strict=True):
            found[float(first), second] = pattern.fullmatch(cell.strip()).groups()
    return found


def read_markdown(text, title):
    block = text.split(f"### {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block[2:]]


def read_latex(text, title):
    block = text.split(rf"\caption{{{title}}}")[1].split(r"\end{tabular}")[0].split(r"\hline")[2]
    return [
        [cell.strip() for cell in line.removesuffix(r"\\").split("&")]
        for line in block.strip().splitlines()
    ]


@pytest.mark.parametrize(("kind", "read"), [("markdown", read_markdown), ("latex", read_latex)])
def test_matrices_read_back(results, kind, read):
    cells = cells_of(read(export(GRID, results, kind), "A small grid: FGSM"))
    for place, record in by_place(GRID, results).items():
        paper, ours, low, high, n = cells[place]
        assert paper == record.paper
        if record.ours is None:
            assert ours is None
        else:
            shown = [f"{value:.2f}" for value in (record.ours, record.low, record.high)]
            assert [ours, low, high] == shown
            assert int(n) == len(record.seeds)


def test_latex_is_escaped():
    table = Table("50 % of lambda_1 & a_b", ("x", "y"), (("a–b", "{1}"),))
    text = table.latex()
    assert r"\caption{50 \% of $\lambda_1$ \& a\_b}" in text
    assert r"a--b & \{1\} \\" in text


def test_reduced_numbers_are_marked_everywhere(results, tmp_path):
    reduced = GRID.with_epochs(2)
    for row in reduced.rows:
        recipe = dataclasses.replace(row.recipe, seed=0)
        (tmp_path / "grid" / f"short-{row.key}.json").write_text(json.dumps(result(recipe, 99)))
    again = Results(tmp_path)
    mark = "2 epochs in place of 3"
    assert by_place(reduced, again)[0.1, 0.1].values == (27.5,)
    assert all(record.reduced == mark for record in measurements(reduced, again))
    assert all(record.reduced == "" for record in measurements(GRID, again))
    for table in experiment_tables(reduced, again):
        assert "(reduced)" in table.title
        assert f"Reduced: {mark}." in table.notes[0]
    for kind in ("markdown", "csv", "latex", "json"):
        assert mark in export(reduced, again, kind)
        assert mark not in export(GRID, again, kind)
    assert [form.mark for form in variants(GRID, again)] == ["", f"Reduced: {mark}."]
    assert [form.mark for form in variants(GRID, again, 2)] == [f"Reduced: {mark}."]
    assert len(measured_part(GRID, again).rows) == 3


def test_fewer_images_are_a_reduction_too(tmp_path):
    recipe = GRID.rows[0].recipe
    results = Results()
    results.add(recipe, result(recipe, 50, 100, "100 drawn at random"))
    record = by_place(GRID, results)[0.1, 0.1]
    assert record.reduced == "100 test images, drawn at random"
    # The head of a data set is no sample.
    results = Results()
    results.add(recipe, result(recipe, 50, 100, "0:100"))
    assert by_place(GRID, results)[0.1, 0.1].ours is None


def test_seeds_of_fewer_images_stay_out_of_a_mean(results):
    recipe = dataclasses.replace(GRID.rows[0].recipe, seed=3)
    results.add(recipe, result(recipe, 1, 100, "100 drawn at random"))
    assert by_place(GRID, results)[0.1, 0.1].seeds == (0, 1, 2)


def test_differences_are_paired_by_seed_and_corrected():
    experiment = EXPERIMENTS["mnist"]
    results = Results(ROOT / "results")
    found = {one.measure: one for one in paired_differences(experiment, results)}
    records = {(r.row, r.measure): r for r in measurements(experiment, results)}
    for measure, one in found.items():
        ours, theirs = records["policy", measure].values, records["ce", measure].values
        assert one.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
        assert one.p_holm == one.p  # one row alone
        assert one.seeds == 6


def test_differences_between_grids_have_holms_correction(results):
    base = dataclasses.replace(
        GRID, rows=tuple(dataclasses.replace(r, recipe=r.recipe.with_epochs(2)) for r in GRID.rows)
    )
    for row in base.rows[:2]:
        for seed, robust in enumerate((100, 130, 90)):
            recipe = dataclasses.replace(row.recipe, seed=seed)
            results.add(recipe, result(recipe, robust))
    found = [o for o in paired_differences(GRID, results, base) if o.measure == "fgsm"]
    assert [one.row for one in found] == ["policy-0.1-0.1", "policy-0.1-1"]
    assert min(one.p_holm for one in found) == pytest.approx(2 * min(one.p for one in found))


def test_rows_stand_beside_the_papers(results):
    (table,) = [
        one
        for one in experiment_tables(EXPERIMENTS["mnist"], Results(ROOT / "results"))
        if "differences" not in one.title
    ]
    assert table.columns[:3] == ("training", "clean, paper", "ours")
    assert table.rows[0][1] == "99.19"
    assert table.rows[0][2] == "99.09 (99.02–99.15)"
    assert table.rows[0][-1] == "6"


def test_what_the_paper_lacks_has_a_column_of_its_own():
    table = experiment_tables(EXPERIMENTS["table3"], Results())[0]
    assert table.columns[-3:] == ("AutoAttack", "transfer", "seeds")
    assert "Nothing is measured yet." in table.notes[0]


def test_a_table_of_many_attacks_stands_on_its_side():
    table = experiment_tables(EXPERIMENTS["table5"], Results())[0]
    assert table.columns == ("attack", "PC, paper", "ours", "two stages (.75, 1.25), paper", "ours")
    assert ("PGD-10 eps .2", "7.5", "–", "–", "–") in table.rows
    assert ("PGD-40 eps .04", "27.6", "–", "43.8", "–") in table.rows


def test_claims_and_overview(results):
    table = claims_table("table1", results)
    assert {row[1] for row in table.rows} == {"paper", "ours"}
    overview = overview_table(Results(ROOT / "results"))
    rows = {row[0]: row for row in reversed(overview.rows)}  # the longest trainings of each
    assert rows["mnist"][1:4] == ("2 of 2", "6", "12 of 12")
    assert "40 epochs" in rows["mnist"][4]


def test_long_table_reads_back(results):
    table = long_table(GRID, results)
    assert len(table.rows) == 8
    assert table.columns[3] == "measure"


def test_a_measure_of_other_settings_is_not_taken_for_it(results):
    recipe = GRID.rows[0].recipe
    assert results.find(recipe, Measure("fgsm", "FGSM", "fgsm", 0.1)) is not None
    assert results.find(recipe, Measure("fgsm", "FGSM", "fgsm", 0.2)) is None
    assert results.find(recipe, Measure("f", "FGSM", "fgsm", 0.1, (("loss", "dlr"),))) is None


def test_the_whole_plan_of_a_cell_is_done_only_with_every_measure(results, tmp_path):
    cells = plan_cells(GRID, [0], tmp_path / "o")
    assert [cell.is_done(results) for cell in cells] == [True, True, True, False]


def test_trainings_without_a_second_stage_are_told(results):
    assert "never began" not in experiment_tables(GRID, results)[0].notes[0]
    recipe = dataclasses.replace(GRID.rows[3].recipe, seed=0)
    told = result(recipe, 9)
    told["training"]["second_stage_epoch"] = None
    results.add(recipe, told)
    said = "The second stage never began in 1 of 8 trainings: lambda_2 had no say."
    assert said in experiment_tables(GRID, results)[0].notes[0]
    assert said in claims_table("table1", results, GRID).notes[0]

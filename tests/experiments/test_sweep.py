"""Sweeps: each cell once, shared epochs to the bit, errors in one line, others go on."""

import dataclasses
import json
import shutil

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.cells import merged, plan_cells, shared_prefixes
from robustpolicy.experiments.engines import LocalEngine
from robustpolicy.experiments.paper import EXPERIMENTS, get_experiment
from robustpolicy.experiments.results import Results, read_results, second_stage_epoch, summarise
from robustpolicy.experiments.sweep import progress_of, run_cells, shard_cells, to_do
from robustpolicy.report.tables import experiment_table
from tests.experiments.cases import GRID, Here

TINY = get_experiment("digits").with_epochs(2)


def sweep(cells, output, engine=None, **options):
    return run_cells(cells, engine=engine or Here(), output=output, device="cpu", **options)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The small grid, shared, in two processes."""
    output = tmp_path_factory.mktemp("sweep")
    cells = plan_cells(GRID, [0], output)
    seen, done = set(), []
    report = sweep(
        cells,
        output,
        LocalEngine(2),
        tick=lambda: seen.update(progress_of(cell)[0] for cell in cells),
        on_done=done.append,
    )
    assert (report.failed, report.warnings) == ({}, [])
    assert sorted(name for name in done if name.startswith("grid")) == [c.name for c in cells]
    assert len(done) == 4 + 2  # the two prefixes
    assert seen <= {"waiting", "train", "attack"}
    return output, cells


def test_every_cell_has_its_result(swept):
    output, cells = swept
    assert [cell.name for cell in cells] == [
        "grid/policy-0.1-0.1-seed0", "grid/policy-0.1-1-seed0",
        "grid/policy-1-0.1-seed0", "grid/policy-1-1-seed0",
    ]  # fmt: skip
    for cell in cells:
        assert cell.done
        assert (output / cell.name).resolve() == cell.run.resolve()
        result = json.loads(cell.result.read_text())
        assert result["recipe"] == cell.recipe.to_json()
        assert set(result["evaluations"][0]["attacks"]) == {"clean", "fgsm"}
        assert result["evaluations"][0]["n"] == 360
        assert result["environment"]["threads"] == 1
        assert "machine" not in result["environment"]
        assert result["training"]["shared_epochs"] == 1
        assert len(result["training"]["loss"]) == 3


def test_sharing_changes_nothing(swept, tmp_path):
    output, cells = swept
    assert len(list((output / "prefixes").glob("digits-*"))) == 2
    alone = plan_cells(GRID, [0], tmp_path)
    sweep(alone, tmp_path, share=False)
    assert not (tmp_path / "prefixes").exists()
    for shared, whole in zip(cells, alone, strict=True):
        a, b = (json.loads(one.result.read_text()) for one in (shared, whole))
        assert a["training"]["loss"] == b["training"]["loss"]
        assert a["training"]["watched_accuracy"] == b["training"]["watched_accuracy"]
        for attack in ("clean", "fgsm"):
            flags = [one["evaluations"][0]["attacks"][attack]["robust"] for one in (a, b)]
            assert flags[0] == flags[1]
        weights = [(one.run / "weights.safetensors").read_bytes() for one in (shared, whole)]
        assert weights[0] == weights[1]


def test_done_cells_are_skipped(swept):
    output, cells = swept
    engine = Here()
    sweep(cells, output, engine)
    assert engine.names == []


def test_a_changed_recipe_is_another_cell(swept):
    output, cells = swept
    other = plan_cells(GRID.with_epochs(4), [0], output)[:1]
    assert other[0].run != cells[0].run
    assert other[0].result != cells[0].result
    assert not other[0].done


def test_results_elsewhere_count_whatever_their_name(swept, tmp_path):
    _output, cells = swept
    (tmp_path / "known" / "other").mkdir(parents=True)
    shutil.copy(cells[0].result, tmp_path / "known" / "other" / "name.json")
    known = Results(tmp_path / "known")
    fresh = plan_cells(GRID, [0], tmp_path)
    assert [cell.name for cell in to_do(fresh, known)] == [cell.name for cell in cells[1:]]


def test_a_measure_that_is_missing_is_taken_alone(swept, tmp_path):
    output, cells = swept
    shutil.copytree(output, tmp_path / "copy")
    more = plan_cells(GRID.with_attacks(["clean", "fgsm", "apgd-ce"]), [0], tmp_path / "copy")[:1]
    todo = to_do(more, Results(tmp_path / "copy" / "results"))
    assert [measure.key for measure in todo[0].measures] == ["apgd-ce"]
    trained = (more[0].run / "weights.safetensors").stat().st_mtime_ns
    sweep(more, tmp_path / "copy")
    assert (more[0].run / "weights.safetensors").stat().st_mtime_ns == trained
    assert more[0].done
    assert cells[0].is_done(Results(tmp_path / "copy" / "results"))  # what was there has stayed


def test_fewer_samples_are_not_enough(tmp_path, swept):
    _output, cells = swept
    few = plan_cells(GRID.with_samples(100), [0], tmp_path)[:1]
    sweep(few, tmp_path)
    results = Results(tmp_path / "results")
    assert few[0].is_done(results)
    assert not cells[0].is_done(results)
    assert few[0].is_done(Results(cells[0].result.parent.parent))  # all images are more than 100


def test_a_cell_that_fails_is_reported_while_the_others_go_on(tmp_path):
    cells = plan_cells(GRID, [0], tmp_path)[:2]
    cells[0].run.parent.mkdir(parents=True)
    cells[0].run.write_text("no folder")
    engine = Here()
    report = sweep(cells, tmp_path, engine)
    assert list(report.failed) == [cells[0].name]
    assert "cannot make the folder" in report.failed[cells[0].name]
    assert "\n" not in report.failed[cells[0].name]
    assert engine.names.count(cells[0].name) == 2
    assert cells[1].done


@pytest.mark.parametrize("file", ["recipe.json", "checkpoint.pt", "history.jsonl"])
def test_a_corrupt_cell_is_set_aside_and_done_again(swept, tmp_path, file):
    output, cells = swept
    shutil.copytree(output, tmp_path / "o")
    cell = plan_cells(GRID, [0], tmp_path / "o")[0]
    cell.result.unlink()
    (cell.run / file).write_text("{")
    report = sweep([cell], tmp_path / "o")
    assert not report.failed
    assert len(report.warnings) == 1
    assert file in report.warnings[0]
    assert (cell.run.with_name(f"{cell.run.name}.damaged-1") / file).read_text() == "{"
    again, before = (json.loads(one.result.read_text()) for one in (cell, cells[0]))
    assert again["training"]["loss"] == before["training"]["loss"]


def test_a_damaged_result_does_not_count(swept, tmp_path):
    output, _ = swept
    shutil.copytree(output, tmp_path / "o")
    cells = plan_cells(GRID, [0], tmp_path / "o")
    cells[0].result.write_text("{")
    known = Results(tmp_path / "o" / "results")
    assert list(known.damaged) == [cells[0].result]
    assert [cell.name for cell in to_do(cells, known)] == [cells[0].name]
    sweep(cells, tmp_path / "o", results=known)
    assert cells[0].done


def test_a_cell_that_another_process_has_is_looked_at_again(tmp_path, monkeypatch):
    from filelock import FileLock

    from robustpolicy.experiments import sweep as module

    cells = plan_cells(GRID, [0], tmp_path)[:1]
    cells[0].run.parent.mkdir(parents=True)
    lock = FileLock(cells[0].run.with_name(f".{cells[0].run.name}.lock"))
    lock.acquire()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: lock.release())
    engine = Here()
    report = sweep(cells, tmp_path, engine)
    assert not report.failed
    assert engine.names == [cells[0].name] * 2
    assert cells[0].done


def test_what_is_shared(tmp_path):
    cells = plan_cells(GRID, [0, 1], tmp_path)
    found = shared_prefixes(cells, tmp_path)
    assert [len(prefix.cells) for prefix in found] == [2, 2, 2, 2]
    assert shared_prefixes(cells[:1], tmp_path) == []
    table6 = plan_cells(EXPERIMENTS["table6"], [0], tmp_path)
    (prefix,) = shared_prefixes(table6, tmp_path)
    assert len(prefix.cells) == 8  # cross-entropy among them
    assert prefix.recipe.loss.switch_epoch == 75
    table2 = plan_cells(EXPERIMENTS["table2"], range(3), tmp_path)
    assert len(shared_prefixes(table2, tmp_path)) == 21


def test_tables_overlap(tmp_path):
    names = ("table1", "table3", "table4", "table5", "figure3")
    cells = [c for n in names for c in plan_cells(EXPERIMENTS[n], [0], tmp_path)]
    each = merged(cells)
    assert len(each) == 49 + 3 + 3 + 1  # one row of Tables 3, 4 and 5 is a cell of Table 1
    assert len({cell.name for cell in each}) == len(each)
    assert len({cell.run for cell in each}) == len(each)
    (both,) = [cell for cell in each if cell.name == "table1/policy-0.75-1.25-seed0"]
    radii = {m.epsilon for m in both.measures}
    assert radii == {0.04, 0.12, 0.2}


def test_shards_are_the_whole_and_keep_prefixes_together(tmp_path):
    cells = plan_cells(EXPERIMENTS["table2"], [0, 1], tmp_path)
    shares = [shard_cells(cells, number, 4) for number in (1, 2, 3, 4)]
    assert sorted(cell.name for share in shares for cell in share) == sorted(
        cell.name for cell in cells
    )
    assert max(map(len, shares)) - min(map(len, shares)) <= 7
    for share in shares:
        assert len(share) % 7 == 0


def test_the_older_table(swept):
    output, _ = swept
    results = read_results(output / "results", GRID)
    table = experiment_table(GRID, results)
    assert [row[0] for row in table.rows][::2] == [row.label for row in GRID.rows]
    assert table.rows[1][1:3] == ("99.1", "50.0")
    summary = summarise(results["policy-0.1-1"], "clean")
    assert table.rows[2][1] == str(summary)
    assert min(summary.values) <= summary.mean <= max(summary.values)
    # Results of another recipe do not enter a table.
    assert not any(read_results(output / "results", GRID.with_epochs(5)).values())


def test_classes_that_were_lost_are_counted(swept):
    output, _ = swept
    results = read_results(output / "results", GRID)
    results["policy-0.1-1"][0]["evaluations"][0]["clean_accuracy_by_class"] = [0.0, 0.5, 0.0]
    results["policy-1-1"][0]["evaluations"][0]["clean_accuracy_by_class"] = None
    table = experiment_table(dataclasses.replace(GRID, count_lost=True), results)
    place = table.columns.index("classes lost")
    assert (table.rows[2][place], table.rows[6][place]) == ("2", "0")
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_result_that_is_none(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "ce-seed0.json").write_text("{")
    with pytest.raises(UserError, match="is not a result"):
        read_results(tmp_path, TINY)
    assert not plan_cells(TINY, [0], tmp_path, tmp_path)[0].done


def test_second_stage_epoch():
    assert second_stage_epoch([{"epoch": 1, "stage": 1}, {"epoch": 2, "stage": 2}]) == 2
    assert second_stage_epoch([{"epoch": 1}]) is None


def test_transferred_examples_come_from_another_model(tmp_path):
    row = dataclasses.replace(TINY.rows[0], key="one")
    experiment = dataclasses.replace(TINY, rows=(row,)).with_attacks(["clean", "transfer"])
    cells = plan_cells(experiment, [0], tmp_path)
    engine = Here()
    assert not sweep(cells, tmp_path, engine).failed
    assert [name.split("/")[0] for name in engine.names] == ["surrogate", "digits"]
    result = json.loads(cells[0].result.read_text())
    assert "transfer" in result["evaluations"][0]["attacks"]
    assert cells[0].done

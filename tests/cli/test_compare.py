"""``robustpolicy compare`` on real runs: what it counts, prints, keeps, and refuses."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from robustpolicy.cli import main
from robustpolicy.evaluation import choose_samples, wilson
from robustpolicy.experiments.compare import short_names
from robustpolicy.experiments.statistics import holm, mcnemar, newcombe
from robustpolicy.training import Run, get_recipe, train

OPTIONS = ["--samples", "120", "--seed", "5", "--threads", "1", "--device", "cpu"]
ATTACKS = ["clean", "fgsm", "pgd"]


@pytest.fixture(scope="module")
def runs(digits_run, tmp_path_factory):
    """Three finished runs: cross-entropy, a shorter one with another seed, and two stages."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(digits_run.path, folder / "ce")
    policy = get_recipe("digits-policy").with_epochs(8)
    train(dataclasses.replace(policy, seed=3), folder / "policy", device="cpu")
    shorter = dataclasses.replace(get_recipe("digits-ce").with_epochs(5), seed=4)
    train(shorter, folder / "other", device="cpu")
    return folder


@pytest.fixture(scope="module")
def compared(runs):
    """Output and JSON of one comparison of the three, with its figure."""
    out = runs / "compared.json"
    command = ["compare", *(str(runs / name) for name in ("ce", "policy", "other")), *OPTIONS]
    assert main([*command, "--json", str(out), "--figure", str(runs / "x.png"), "--quiet"]) == 0
    return command, json.loads(out.read_text())


def flags(run, attack):
    """Per-sample flags of an attack, or of all of them together."""
    attacks = run["evaluation"]["attacks"]
    if attack == "worst case":
        return np.logical_and.reduce([flags(run, name) for name in attacks])
    return np.array(list(attacks[attack]["robust"])) == "1"


def test_pairs_are_those_of_the_flags(compared):
    _, found = compared
    first = found["runs"][0]
    others = {run["name"]: run for run in found["runs"][1:]}
    assert [(one["run"], one["attack"]) for one in found["paired"]] == [
        (name, attack) for name in ("policy", "other") for attack in [*ATTACKS, "worst case"]
    ]
    for one in found["paired"]:
        a, b = flags(first, one["attack"]), flags(others[one["run"]], one["attack"])
        counts = (a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum()
        assert counts == tuple(
            one[key] for key in ("both", "only_reference", "only_run", "neither")
        )
        assert one["difference"] == pytest.approx(b.mean() - a.mean())
        turned = newcombe(*map(int, (counts[0], counts[2], counts[1], counts[3])))
        assert one["interval"] == pytest.approx(turned)
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
        assert one["p"] == mcnemar(int(counts[1]), int(counts[2]))
    assert [one["p_holm"] for one in found["paired"]] == holm([one["p"] for one in found["paired"]])
    assert any(one["only_run"] + one["only_reference"] for one in found["paired"])


def test_flags_are_of_the_same_samples(compared, runs, digits):
    _, found = compared
    chosen = choose_samples(360, 120, seed=5)
    images, labels = digits.test_images[chosen].float() / 255, digits.test_labels[chosen]
    for run in found["runs"]:
        right = Run.open(runs / run["name"]).load_model()(images).argmax(1) == labels
        assert (flags(run, "clean") == right.numpy()).all()
        worst = flags(run, "worst case")
        told = run["evaluation"]["worst_case"]
        assert told["robust_accuracy"] == worst.mean()
        assert told["interval"] == list(wilson(int(worst.sum()), 120))


def test_recipes_and_curves(compared, runs):
    _, found = compared
    recipes = found["recipes"]
    assert recipes["differ"]["loss.penalty"] == [None, 1.5, None]
    assert recipes["differ"]["seed"] == [3, 3, 4]
    assert recipes["differ"]["epochs"] == [8, 8, 5]
    assert recipes["in_common"]["dataset"] == "digits"
    assert not set(recipes["differ"]) & set(recipes["in_common"])
    assert found["environments"]["in_common"]["device"] == "cpu"
    for run in found["runs"]:
        assert run["history"] == Run.open(runs / run["name"]).history()
        assert "machine" not in run["environment"]
    assert (runs / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_comparison_evaluates_nothing_and_prints_the_tables(compared, capsys, tmp_path):
    command, found = compared
    out = tmp_path / "again.json"
    assert main([*command, "--json", str(out)]) == 0
    shown = capsys.readouterr()
    assert "samples done" not in shown.err
    assert json.loads(out.read_text()) == found
    text = shown.out
    tables = [line.rstrip() for line in text.splitlines() if line.startswith(" ")]
    assert max(map(len, tables)) <= 100
    rows = {tuple(line.split()) for line in tables}
    assert ("loss.penalty", "–", "1.5", "–") in rows
    first, last = found["runs"][0]["history"], found["runs"][2]["history"]
    final = next(row for row in rows if row[:2] == ("epoch", "8"))
    assert final[2] == f"{first[7]['loss']:.4f}"
    assert final[-1] == "–"  # the shorter run has ended
    assert any(row[:3] == ("epoch", "5", f"{first[4]['loss']:.4f}") for row in rows)
    assert any(row[-3] == f"{last[4]['loss']:.4f}" for row in rows if row[:2] == ("epoch", "5"))
    assert any(row[:2] == ("second", "stage") for row in rows)
    assert "A = ce, B = policy" in text
    assert "In common: dataset digits" in text
    assert "Holm's over all 8 comparisons" in text
    last_pairs = [one for one in found["paired"] if one["attack"] == "worst case"]
    for one, line in zip(last_pairs, text.splitlines()[-2:], strict=True):
        points = 100 * one["difference"]
        if one["p_holm"] >= 0.05:
            assert f"no difference shown in the worst case ({points:+.1f} points" in line
        else:
            words = "more" if points > 0 else "fewer"
            assert f"{one['run']} is robust on {abs(points):.1f} points {words} than ce" in line


def test_a_first_comparison_says_what_it_attacks(runs, capsys):
    """Attacks and samples are another evaluation, so this one runs."""
    names = [str(runs / "ce"), str(runs / "other")]
    command = ["compare", *names, "--attacks", "pgd", "--epsilon", "0.02", "--samples", "20"]
    assert main([*command, "--threads", "1"]) == 0
    shown = capsys.readouterr()
    assert "ce pgd: " in shown.err
    assert "other pgd: " in shown.err
    assert "eps 0.02" in shown.out
    assert "worst case" not in shown.out  # it would be PGD's row again
    assert "Holm's over one comparison" in shown.out


def test_a_run_and_its_copy_do_not_differ(compared, runs, tmp_path, capsys):
    shutil.copytree(runs / "ce", tmp_path / "[copy]")
    command = ["compare", str(runs / "ce"), str(tmp_path / "[copy]"), *OPTIONS]
    assert main([*command, "--json", str(tmp_path / "x.json")]) == 0
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["recipes"]["differ"] == {}
    for one in found["paired"]:
        assert one["only_reference"] == one["only_run"] == one["difference"] == 0
        assert one["p"] == one["p_holm"] == 1
        assert one["interval"][0] < 0 < one["interval"][1]
    text = capsys.readouterr().out
    assert "The recipes are the same, seed included." in text
    assert "[copy] and ce: no difference shown in the worst case (+0.0 points" in text
    assert "B = [copy]" in text  # brackets are no markup


BAD = [
    ("", "no run folders given; compare takes at least two"),
    ("{ce}", "1 run folder given; compare takes at least two"),
    ("--attacks pgd {ce} {other}", "no run folders given"),
    ("{ce} {ce}/", "is given twice"),
    ("{ce} {ce}/../ce", "is given twice"),
    ("{ce} nowhere", "nowhere is not a run folder"),
    ("{ce} {unfinished}", "is not finished (5 of 5 epochs)"),
    ("{ce} {mnist}", "was trained on mnist"),
    ("{ce} {empty}", "history.jsonl is empty"),
    ("{ce} {other} --attacks cw", "choose some of clean, fgsm, pgd, apgd-ce"),
    ("{ce} {other} --attacks", "--attacks has 'nothing'"),
    ("{ce} {other} --samples 361", "give a number from 1 to 360"),
    ("{ce} {other} --epsilon 0", "give a radius > 0"),
    ("{ce} {other} --norm L2", "needs an --epsilon"),
    ("{ce} {other} --threads 0", "--threads is 0"),
    ("{ce} {other} --json nowhere/x.json", "--json nowhere/x.json: give the name of a file"),
    ("{ce} {other} --figure .", "--figure .: give the name of a file"),
    ("{ce} {other} --figure x.jpeg", "give a file ending in .png, .pdf, .svg"),
    ("{ce} {other} --fast", "Unrecognized options: --fast"),
]


@pytest.fixture(scope="module")
def broken(runs, tmp_path_factory):
    """Folders that are no finished runs on digits."""
    folder = tmp_path_factory.mktemp("broken")
    for name in ("unfinished", "mnist", "empty"):
        shutil.copytree(runs / "other", folder / name)
    (folder / "unfinished" / "DONE").unlink()
    (folder / "empty" / "history.jsonl").write_text("")
    recipe = json.loads((folder / "mnist" / "recipe.json").read_text())
    (folder / "mnist" / "recipe.json").write_text(json.dumps({**recipe, "dataset": "mnist"}))
    return folder


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_is_one_line_and_code_2(
    line, message, runs, broken, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folders = {path.name: path for path in (*runs.iterdir(), *broken.iterdir())}
    assert main(["compare", *line.format(**folders).split()]) == 2
    errors = capsys.readouterr().err.strip()
    assert message in errors
    assert errors.startswith("robustpolicy: ")
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "an error must leave nothing behind"


def test_kept_evaluations_of_other_samples_are_not_paired(compared, runs, tmp_path, capsys):
    shutil.copytree(runs / "ce", tmp_path / "old")
    for path in (tmp_path / "old" / "evaluation").iterdir():
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "n": 100}))
    assert main(["compare", str(runs / "ce"), str(tmp_path / "old"), *OPTIONS]) == 2
    assert "was evaluated on 100 samples" in capsys.readouterr().err


def test_short_names():
    assert short_names(["runs/ce", "/elsewhere/policy"]) == ["ce", "policy"]
    assert short_names(["a/seed0", "b/seed0/"]) == ["a/seed0", "b/seed0"]
    assert short_names(["a/x/run", "b/x/run", "b/x/other"]) == ["a/x/run", "b/x/run", "b/x/other"]
    assert short_names([".", ".."]) == [Path.cwd().name, Path.cwd().parent.name]
    assert len(set(short_names(["/run", "/run/run", "/run/run/run"]))) == 3

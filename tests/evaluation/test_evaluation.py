"""Robust accuracy, its interval, its samples, and the targets it is measured on."""

import json

import pytest
import torch
from scipy.stats import binomtest
from torch import nn

from robustpolicy import FGSM, PGD, Threat, UserError, evaluate
from robustpolicy.evaluation import choose_samples, evaluate_run, load_target, paper_plan, wilson
from robustpolicy.evaluation.target import DATASET_OF_MODEL
from robustpolicy.models import MODELS

THREAT = Threat(0.1)


@pytest.mark.parametrize("n", [1, 2, 17, 10_000])
def test_wilson_equals_scipy(n):
    for k in {0, 1, n // 3, n - 1, n}:
        interval = binomtest(k, n).proportion_ci(method="wilson")
        assert wilson(k, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


class TestSamples:
    def test_draws_are_random_seeded_and_rising(self):
        one = choose_samples(10_000, 500, seed=1)
        assert torch.equal(one, choose_samples(10_000, 500, seed=1))
        assert not torch.equal(one, choose_samples(10_000, 500, seed=2))
        assert torch.equal(one, one.unique())
        assert one.max() > 5000  # not the head of the set

    def test_ranges(self):
        assert choose_samples(10).tolist() == list(range(10))
        assert choose_samples(10, indices="2:5").tolist() == [2, 3, 4]
        assert choose_samples(10, indices=":2").tolist() == [0, 1]

    @pytest.mark.parametrize("indices", ["5", "5:5", "3:99", "-1:3", "a:b", "1:2:3", "5:2"])
    def test_bad_ranges(self, indices):
        with pytest.raises(UserError, match="indices"):
            choose_samples(10, indices=indices)

    @pytest.mark.parametrize("samples", [0, 11, -1])
    def test_bad_counts(self, samples):
        with pytest.raises(UserError, match="from 1 to 10"):
            choose_samples(10, samples)

    def test_not_both(self):
        with pytest.raises(UserError, match="both given"):
            choose_samples(10, 5, "0:5")


@pytest.fixture(scope="module")
def result(digits, digits_run):
    x, y = digits.test_images.float() / 255, digits.test_labels
    attacks = ("clean", FGSM(), PGD(steps=10), PGD(steps=10, loss="margin"))
    return evaluate(digits_run.load_model(), x, y, THREAT, attacks), x, y


class TestEvaluate:
    def test_numbers_fit_together(self, result, digits_run):
        evaluation, x, y = result
        assert list(evaluation.attacks) == ["clean", "fgsm", "pgd", "pgd-2"]
        clean, fgsm, pgd, _ = evaluation.attacks.values()
        model = digits_run.load_model()
        assert torch.equal(clean.robust, model(x).argmax(1) == y)
        assert clean.robust_accuracy > 0.9
        assert not (fgsm.robust & ~clean.robust).any()
        assert pgd.robust_accuracy < clean.robust_accuracy
        assert evaluation.robust_accuracy <= min(a.robust_accuracy for a in (fgsm, pgd))
        assert fgsm.gradients == int(clean.robust.sum())

    def test_json(self, result):
        evaluation, _, _ = result
        data = json.loads(json.dumps(evaluation.to_json()))
        for entry in data["attacks"].values():
            low, high = entry["interval"]
            assert 0 <= low <= entry["robust_accuracy"] <= high <= 1
            flags = entry["robust"]
            assert len(flags) == data["n"] == 360
            assert flags.count("1") / 360 == entry["robust_accuracy"]
        assert data["attacks"]["pgd"]["config"]["steps"] == 10
        assert data["threat"] == {"norm": "Linf", "epsilon": 0.1, "low": 0.0, "high": 1.0}

    def test_batches_change_nothing(self, result, digits_run):
        evaluation, x, y = result
        model = digits_run.load_model()
        small = evaluate(model, x, y, THREAT, (PGD(steps=10),), batch_size=77)
        same = small.attacks["pgd"].robust == evaluation.attacks["pgd"].robust
        assert same.float().mean() > 0.99  # rounding depends on the composition of a batch

    def test_an_attack_that_leaves_its_ball_is_caught(self, digits, digits_run):
        class Cheat:
            name = "cheat"

            def __call__(self, model, x, y, threat, *, seed=0, indices=None):
                return 1 - x

        x, y = digits.test_images.float() / 255, digits.test_labels
        with pytest.raises(UserError, match="cheat left its threat model"):
            evaluate(digits_run.load_model(), x, y, THREAT, (Cheat(),))

    def test_an_attack_is_not_taken_at_its_word(self, digits, digits_run):
        class Idle:
            name = "idle"

            def __call__(self, model, x, y, threat, *, seed=0, indices=None):
                return x

        x, y = digits.test_images.float() / 255, digits.test_labels
        evaluation = evaluate(digits_run.load_model(), x, y, THREAT, ("clean", Idle()))
        clean, idle = evaluation.attacks.values()
        assert torch.equal(clean.robust, idle.robust)


class NanOffTheGrid(nn.Module):
    """Finite on 8-bit images alone: what it says elsewhere classifies nothing."""

    def forward(self, x):
        on_grid = ((x * 255).round() / 255 == x).flatten(1).all(1, keepdim=True)
        logits = (
            torch.nn.functional.one_hot(torch.zeros(len(x), dtype=torch.long), 10)
            + 0 * (x.flatten(1)[:, :10])
        )
        return torch.where(on_grid, logits, torch.nan)


def test_nan_on_adversarial_examples_is_not_robust():
    x = torch.randint(256, (20, 1, 28, 28)) / 255
    result = evaluate(NanOffTheGrid(), x, torch.zeros(20, dtype=torch.long), THREAT)
    assert result.attacks["clean"].robust_accuracy == 1
    assert result.attacks["pgd"].robust_accuracy == 0


class Nan(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] / 0


X, Y = torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 3])
GOOD = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
REFUSED = [
    (lambda: evaluate(GOOD, X * 2, Y, THREAT), "outside the declared range"),
    (lambda: evaluate(GOOD, X, Y + 9, THREAT), r"outside \[0, 9\]"),
    (lambda: evaluate(GOOD, X, Y.float(), THREAT), "labels are torch.float32"),
    (lambda: evaluate(GOOD, X, Y[:2], THREAT), "4 inputs and 2 labels"),
    (lambda: evaluate(GOOD, X[:0], Y[:0], THREAT), "at least one"),
    (lambda: evaluate(Nan(), X, Y, THREAT), "NaN or inf"),
    (lambda: evaluate(nn.Identity(), X, Y, THREAT), "logits have shape"),
    (lambda: evaluate(nn.Linear(3, 2), X, Y, THREAT), "cannot take a batch of shape"),
    (lambda: evaluate(GOOD, X, Y, THREAT, ("cw",)), "choose some of clean, fgsm, pgd"),
    (lambda: evaluate(GOOD, X, Y, THREAT, ()), "no attacks"),
    (lambda: evaluate(GOOD, X, Y, THREAT, batch_size=0), "batch_size is 0"),
    (lambda: evaluate(GOOD, X, Y, THREAT, indices=torch.arange(3)), "3 indices for 4"),
    (
        lambda: evaluate(GOOD, X, GOOD(X).argmax(1), THREAT, (lambda *a, **k: X[:1],)),
        "did not return",
    ),
    (lambda: load_target("nowhere"), "not a run folder, a file of weights or module:callable"),
    (lambda: load_target("torch:nothing", dataset="mnist"), "torch:nothing failed: AttributeError"),
    (lambda: load_target("torch:get_num_threads", dataset="mnist"), "returned int"),
    (lambda: load_target("torch:rand"), "name its data set"),
    (lambda: load_target("no_such:f", dataset="mnist"), "ModuleNotFoundError"),
    (lambda: load_target("x", dataset="imagenet"), "unknown data set"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call()


class TestTargets:
    def test_a_run(self, digits_run):
        target = load_target(str(digits_run.path))
        assert (target.dataset, target.run.recipe) == ("digits", digits_run.recipe)
        with pytest.raises(UserError, match="leave --model out"):
            load_target(str(digits_run.path), model="lenet5")
        with pytest.raises(UserError, match="trained on digits, not mnist"):
            load_target(str(digits_run.path), dataset="mnist")

    def test_every_model_has_its_data_set(self):
        assert set(DATASET_OF_MODEL) == set(MODELS)

    def test_weights(self, digits_run, tmp_path):
        file = str(digits_run.path / "weights.safetensors")
        run_model = digits_run.load_model()
        target = load_target(file, "lenet5", "digits")
        torch.testing.assert_close(target.model(X), run_model(X))
        torch.save(run_model.state_dict(), tmp_path / "w.pt")
        torch.testing.assert_close(
            load_target(str(tmp_path / "w.pt"), "lenet5").model(X), run_model(X)
        )
        for name in (file, str(tmp_path / "w.pt")):
            with pytest.raises(UserError, match="does not fit"):
                load_target(name, "small-cnn")
        with pytest.raises(UserError, match="name its model"):
            load_target(str(tmp_path / "w.pt"))
        own = load_target(file)  # in its run folder it is known
        torch.testing.assert_close(own.model(X), run_model(X))
        (tmp_path / "bad.safetensors").write_bytes(b"junk")
        with pytest.raises(UserError, match="not a readable safetensors"):
            load_target(str(tmp_path / "bad.safetensors"), "lenet5")
        torch.save(run_model, tmp_path / "whole.pt")  # a pickled module would run code
        with pytest.raises(UserError, match="not a file of plain weights"):
            load_target(str(tmp_path / "whole.pt"), "lenet5")

    def test_an_evaluation_is_kept_in_the_run_folder(self, digits, digits_run):
        plan = paper_plan("digits")
        first = evaluate_run(digits_run, plan, lambda: digits, torch.device("cpu"), None)

        def never():
            raise AssertionError("evaluated twice")

        assert evaluate_run(digits_run, plan, never, torch.device("cpu"), None) == first

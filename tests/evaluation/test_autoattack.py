"""AutoAttack: equal to the official one, resumable, the same over several processes, verifiable."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from robustpolicy import PGD, Threat, UserError, evaluate
from robustpolicy.attacks import APGD, FAB, AutoAttack, OfficialAutoAttack, Square
from robustpolicy.attacks.fab import project_to_plane
from robustpolicy.data import to_float
from robustpolicy.evaluation.store import stored_batches
from robustpolicy.training import get_recipe, train
from robustpolicy.training.recipe import MadryAT, Sgd, TwoStage

QUICK = AutoAttack(
    "quick",
    (APGD(steps=10), APGD(steps=10, targets=3), FAB(steps=5, targets=3), Square(queries=50)),
)


@pytest.fixture(scope="module")
def policy_run(tmp_path_factory):
    recipe = dataclasses.replace(
        get_recipe("digits-policy"), epochs=20, optimizer=Sgd(), loss=TwoStage(threshold=0.6)
    )
    return train(recipe, tmp_path_factory.mktemp("policy"), device="cpu")


def short_mnist_recipe(kind):
    recipe = get_recipe("mnist-ce").with_epochs(1)
    if kind == "two-stage":
        return dataclasses.replace(recipe.with_epochs(2), loss=TwoStage(threshold=0.3))
    if kind == "adversarial":
        return dataclasses.replace(recipe, adversary=MadryAT(steps=3, step_size=0.05, ramp=0))
    return recipe


def digits_batch(digits, n=100):
    return digits.test_images[:n].float() / 255, digits.test_labels[:n]


def flags(model, x, y, attack, threat):
    return model(attack(model, x, y, threat)).argmax(1) == y


class TestEqualToTheOfficial:
    """The same random starts give the same flags, sample by sample."""

    @pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.08), ("L2", 1.0)])
    @pytest.mark.parametrize("which", ["apgd-ce", "apgd-dlr", "apgd-t"])
    @pytest.mark.parametrize(
        "run", ["digits_run", pytest.param("policy_run", marks=pytest.mark.slow)]
    )
    def test_apgd_on_digits(self, request, digits, run, which, norm, epsilon):
        model = request.getfixturevalue(run).load_model()
        self.compare(model, *digits_batch(digits, 30), which, Threat(epsilon, norm=norm))

    @pytest.mark.mnist
    @pytest.mark.parametrize(
        "kind",
        [
            "cross-entropy",
            pytest.param("two-stage", marks=pytest.mark.slow),
            pytest.param("adversarial", marks=pytest.mark.slow),
        ],
    )
    def test_apgd_on_mnist(self, mnist, kind, tmp_path):
        run = train(short_mnist_recipe(kind), tmp_path, device="cpu")
        assert kind != "two-stage" or run.history()[-1]["stage"] == 2
        x, y = to_float(mnist.test_images[:100]), mnist.test_labels[:100]
        threat = Threat(0.2 if kind == "adversarial" else 0.1)
        for which in ("apgd-ce", "apgd-t"):
            self.compare(run.load_model(), x, y, which, threat, exits=False)

    def compare(self, model, x, y, which, threat, exits=True):
        loss = "dlr" if which == "apgd-dlr" else "ce"
        ours = APGD(loss=loss, targets=9 if which == "apgd-t" else 0, start="official")
        robust = flags(model, x, y, ours, threat)
        theirs = flags(model, x, y, OfficialAutoAttack(attacks=(which,)), threat)
        assert torch.equal(robust, theirs)
        assert 0 < robust.sum() < len(y)
        if exits:
            slow = flags(model, x, y, dataclasses.replace(ours, early_exit=False), threat)
            assert torch.equal(robust, slow)

    def test_fab_finds_points_as_near(self, digits, digits_run):
        from pyautoattack.fab_pt import FABAttack_PT

        model, (x, y) = digits_run.load_model(), digits_batch(digits, 50)
        for norm in ("Linf", "L2"):
            threat = Threat(0.05 if norm == "Linf" else 0.5, norm=norm)
            attack = FAB(steps=30, targets=3, early_exit=False)
            nearest, found = attack.nearest(model, x, y, threat)
            official = FABAttack_PT(
                model, norm=norm, n_iter=30, eps=threat.epsilon, targeted=True, device="cpu",
                n_target_classes=3, seed=0,
            )  # fmt: skip
            theirs = official.perturb(x, y)
            robust = flags(model, x, y, attack, threat)
            assert (robust != (model(theirs).argmax(1) == y)).sum() <= 1  # at the ball's rim
            assert found.all()
            assert (model(nearest).argmax(1) != y).all()

    def test_square_succeeds_as_often(self, digits, digits_run):
        from pyautoattack.square import SquareAttack

        model, (x, y) = digits_run.load_model(), digits_batch(digits, 100)
        threat = Threat(0.1)
        ours = flags(model, x, y, Square(queries=300), threat).sum()
        rates = []
        for seed in (0, 1, 2):
            official = SquareAttack(
                model, eps=0.1, n_queries=300, seed=seed, device="cpu", resc_schedule=False
            )
            rates.append((model(official.perturb(x, y)).argmax(1) == y).sum())
        assert min(rates) - 6 <= ours <= max(rates) + 6

    def test_the_caller_is_left_alone(self, digits, digits_run):
        model = digits_run.load_model().train()
        torch.manual_seed(3)
        before, trace = torch.get_rng_state(), (lambda *a: None)
        sys.settrace(trace)
        try:
            OfficialAutoAttack(attacks=("apgd-ce",))(model, *digits_batch(digits, 5), Threat(0.1))
            assert sys.gettrace() is trace
        finally:
            sys.settrace(None)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training


def test_projection_is_the_nearest_point_of_the_plane():
    """Against scipy's solver on small problems, both norms."""
    import numpy as np
    from scipy.optimize import linprog, minimize

    generator = torch.Generator().manual_seed(0)
    x, w = (torch.rand(20, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    w = 2 * w - 1
    inside = torch.rand(20, 6, generator=generator, dtype=torch.float64)
    b = (w * inside).sum(1)  # a plane that cuts the box
    for norm in ("Linf", "L2"):
        step = project_to_plane(x, w, b, Threat(1, norm=norm))
        torch.testing.assert_close((w * (x + step)).sum(1), b)
        assert ((x + step >= -1e-9) & (x + step <= 1 + 1e-9)).all()
        for row in range(20):
            xs, ws = x[row].numpy(), w[row].numpy()
            bounds = [(-v, 1 - v) for v in xs]
            gap = float(b[row]) - ws @ xs
            if norm == "Linf":
                # minimise t with |d_i| <= t
                eye = np.eye(6)
                column = -np.ones((6, 1))
                best = linprog(
                    np.r_[np.zeros(6), 1],
                    A_ub=np.r_[np.c_[eye, column], np.c_[-eye, column]],
                    b_ub=np.zeros(12),
                    A_eq=np.r_[ws, 0][None],
                    b_eq=[gap],
                    bounds=[*bounds, (0, None)],
                ).fun
                assert step[row].abs().max() == pytest.approx(best, abs=1e-6)
            else:
                best = minimize(
                    lambda d: d @ d,
                    np.zeros(6),
                    bounds=bounds,
                    constraints={"type": "eq", "fun": lambda d, ws=ws, gap=gap: ws @ d - gap},
                    options={"ftol": 1e-12},
                ).fun
                assert step[row].square().sum() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4, 12])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_any_number_of_classes_and_odd_images(classes, norm):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 8, classes)
    )
    x = -1 + 2 * torch.rand(6, 1, 7, 10)  # not square, another range
    threat = Threat(0.6, -1, 1, norm)
    y = model(x).argmax(1)
    for version in (QUICK, APGD(loss="dlr", steps=5), FAB(steps=5)):
        x_adv = version(model, x, y, threat)
        assert threat.verify(x, x_adv).all()
    single = QUICK(model, x[:1], y[:1], threat)
    assert single.shape == (1, 1, 7, 10)
    with torch.inference_mode():
        QUICK(model, x.clone(), y.clone(), threat)


class TestState:
    def test_a_sequence_is_what_its_members_are(self, digits, digits_run, tmp_path):
        x, y = digits_batch(digits)
        model = digits_run.load_model()
        plain = evaluate(model, x, y, Threat(0.05), ("clean", QUICK), batch_size=30)
        kept = evaluate(
            model, x, y, Threat(0.05), ("clean", QUICK), batch_size=30, state=tmp_path / "s"
        )
        assert torch.equal(plain.robust, kept.robust)
        result = plain.attacks["autoattack"]
        names = [member.name for member in result.members]
        assert names == ["apgd-ce", "apgd-t", "fab-t", "square"]
        accuracies = [member.robust_accuracy for member in result.members]
        assert accuracies == sorted(accuracies, reverse=True)
        assert result.robust_accuracy == accuracies[-1] < 1
        assert set(result.to_json()["members"]) == set(names)
        assert result.flags["square_gain"] >= 0
        # The whole state is read back without an attack.
        again = evaluate(
            model, x, y, Threat(0.05), ("clean", QUICK), batch_size=30, state=tmp_path / "s"
        )
        assert torch.equal(again.robust, kept.robust)
        assert again.attacks["autoattack"].seconds == kept.attacks["autoattack"].seconds

    @pytest.mark.parametrize("left", [0, 1, 3, 5])
    def test_a_state_that_was_cut_off_goes_on(self, digits, digits_run, tmp_path, left):
        x, y = digits_batch(digits)
        model = digits_run.load_model()
        arguments = (x, y, Threat(0.05), ("clean", QUICK))
        whole = evaluate(model, *arguments, batch_size=30, state=tmp_path)
        files = sorted(tmp_path.glob("*.safetensors"))
        for file in files[left:]:
            file.unlink()
        if left:
            files[left - 1].write_bytes(files[left - 1].read_bytes()[:100])  # damaged
        again = evaluate(model, *arguments, batch_size=30, state=tmp_path)
        assert torch.equal(again.robust, whole.robust)

    def test_another_evaluation_is_refused_with_the_reason(self, digits, digits_run, tmp_path):
        x, y = digits_batch(digits, 20)
        model = digits_run.load_model()
        evaluate(model, x, y, Threat(0.05), (PGD(steps=2),), state=tmp_path / "s")
        cases = [
            ((x, y, Threat(0.06), (PGD(steps=2),)), {}, "threat was"),
            ((x, y, Threat(0.05), (PGD(steps=3),)), {}, "attacks was"),
            ((x[1:], y[1:], Threat(0.05), (PGD(steps=2),)), {}, "data was"),
            ((x, y, Threat(0.05), (PGD(steps=2),)), {"seed": 1}, "seed was 0, now it is 1"),
        ]
        for arguments, options, message in cases:
            with pytest.raises(UserError, match=message):
                evaluate(model, *arguments, state=tmp_path / "s", **options)
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)
        with pytest.raises(UserError, match="model was LeNet5"):
            evaluate(model, x, y, Threat(0.05), (PGD(steps=2),), state=tmp_path / "s")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").write_text("")
        with pytest.raises(UserError, match="not empty"):
            evaluate(model, x, y, Threat(0.05), (PGD(steps=2),), state=tmp_path / "full")

    @pytest.mark.slow
    def test_kill_9_and_on(self, digits_run, tmp_path, cli):
        line = ["evaluate", digits_run.path, "--attacks", "clean", "apgd-ce", "apgd-t", "--samples",
                "40", "--epsilon", "0.05", "--batch-size", "5", "--device", "cpu"]  # fmt: skip
        line = [str(word) for word in line]
        reference = cli(*line, "--json", "a.json", "--state", "one")
        assert reference.returncode == 0, reference.stderr
        process = subprocess.Popen(
            [sys.executable, "-m", "robustpolicy", *line, "--state", str(tmp_path / "two")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.time() + 60
        while len(list((tmp_path / "two").glob("*.safetensors"))) < 8 and time.time() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(list((tmp_path / "two").glob("*.safetensors")))
        again = cli(*line, "--json", "b.json", "--state", "two")
        assert again.returncode == 0, again.stderr
        a, b = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "ab")
        for attack in ("apgd-ce", "apgd-t"):
            assert a["attacks"][attack]["robust"] == b["attacks"][attack]["robust"]
        assert len(list((tmp_path / "two").glob("*.safetensors"))) > before


@pytest.mark.slow
def test_workers_and_verify(digits_run, tmp_path, cli):
    line = ["evaluate", digits_run.path, "--attacks", "clean", "apgd-ce", "square", "--samples",
            "24", "--epsilon", "0.08", "--device", "cpu"]  # fmt: skip
    one = cli(*line, "--json", "one.json", "--state", "s1")
    two = cli(*line, "--json", "two.json", "--state", "s2", "--workers", "2")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    a, b = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    for attack in ("clean", "apgd-ce", "square"):
        assert a["attacks"][attack]["robust"] == b["attacks"][attack]["robust"]
    done = cli("verify", "s2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 outside the ball or the range, 0 classified correctly" in done.stdout
    # An altered example is found out.
    from safetensors.torch import load_file, save_file

    state = tmp_path / "s1"
    name = next(n for n, batch in stored_batches(state) if len(batch.x_adv))
    file = next(state.glob(f"{name}-*.safetensors"))
    tensors = load_file(file)
    tensors["x_adv"] = tensors["x_adv"].clone()
    tensors["x_adv"][0] = 0.5
    save_file(tensors, file)
    done = cli("verify", "s1")
    assert done.returncode == 1
    assert "1 outside" in done.stdout


class TestFlags:
    def test_random_outputs(self, digits, digits_run):
        class Noisy(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                return self.model(x + 0.1 * torch.randn_like(x))

        x, y = digits_batch(digits, 20)
        evaluation = evaluate(Noisy(digits_run.load_model()), x, y, Threat(0.05), ("clean",))
        assert evaluation.flags["random_outputs"]
        assert "rand" in evaluation.warnings[0]
        steady = evaluate(digits_run.load_model(), x, y, Threat(0.05), ("clean",))
        assert not any(steady.flags.values())
        assert not steady.warnings

    def test_softmax_outputs_and_zero_gradients(self, digits, digits_run):
        x, y = digits_batch(digits, 20)
        masked = nn.Sequential(digits_run.load_model(), nn.Softmax(1))
        evaluation = evaluate(masked, x, y, Threat(0.05), ("clean",))
        assert evaluation.flags["probability_outputs"]

        class Saturated(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                return self.model(x) * 1e4

        evaluation = evaluate(Saturated(digits_run.load_model()), x, y, Threat(0.05), (PGD(),))
        assert evaluation.attacks["pgd"].flags["zero_gradient_share"] > 0.5
        assert any("masked" in line for line in evaluation.warnings)

    def test_memory_that_runs_out_halves_the_batch(self, digits, digits_run):
        sizes = []

        class Hungry:
            name = "hungry"

            def __call__(self, model, x, y, threat, *, seed=0, indices=None):
                sizes.append(len(x))
                if len(x) > 6:
                    raise torch.OutOfMemoryError("no room")
                return x

        x, y = digits_batch(digits, 20)
        evaluation = evaluate(digits_run.load_model(), x, y, Threat(0.05), ("clean", Hungry()))
        robust = [result.robust for result in evaluation.attacks.values()]
        assert torch.equal(*robust)
        assert max(sizes) > 6 >= min(sizes)


def test_unknown_version():
    with pytest.raises(UserError, match="standard, plus, rand"):
        AutoAttack("fast")

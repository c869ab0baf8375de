"""FGSM and PGD: closed forms, the contract, and what they must leave alone."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from robustpolicy import FGSM, PGD, Threat, UserError
from robustpolicy.attacks import (
    APGD,
    ATTACK_LOSSES,
    ATTACKS,
    FAB,
    SPSA,
    AttackedModel,
    AutoAttack,
    Square,
    Transfer,
)
from robustpolicy.attacks.noise import keyed
from robustpolicy.evaluation.curve import robustness_curve
from robustpolicy.models import build_model

THREAT = Threat(0.1)
EVERY = [FGSM(), PGD(steps=5), PGD(steps=3, restarts=3), PGD(steps=5, random_start=False),
         FGSM("margin"), PGD(steps=5, loss="margin")]  # fmt: skip


def linear(seed=0, classes=3, pixels=12):
    """A linear classifier, whose worst case in an l-infinity ball has a closed form."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))


def batch(n=40, seed=0, shape=(1, 3, 4), classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *shape, generator=generator)
    return x, torch.randint(classes, (n,), generator=generator)


def test_fgsm_is_eq_29():
    model, (x, y) = linear(), batch()
    x.requires_grad_()
    nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
    expected = (x.detach() + 0.1 * x.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(FGSM()(model, x.detach(), y, THREAT), expected)


def test_pgd_finds_the_worst_case_of_a_linear_model():
    # Two classes: the margin falls by eps * |w|_1 at most, less where the range cuts the ball.
    model, (x, y) = linear(classes=2), batch(200, classes=2)
    weight = model[1].weight.detach()
    w = (weight[0] - weight[1]).view(1, 1, 3, 4) * (1 - 2 * y.view(-1, 1, 1, 1))
    worst = (x - 0.1 * w.sign()).clamp(0, 1)
    expected = model(worst).argmax(1) != y
    attack = PGD(steps=40, step_size=0.01)
    assert torch.equal(model(attack(model, x, y, THREAT)).argmax(1) != y, expected)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_pgd_is_the_textbooks(norm):
    """Written out once more without our parts: start, step, projection; float64."""
    model, (x, y) = linear(pixels=12).double(), batch()
    x, epsilon, step = x.double(), 0.3, 0.05
    start = x + 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)
    start = start.clamp(0, 1)
    current = start
    for _ in range(12):
        current = current.detach().requires_grad_()
        nn.functional.cross_entropy(model(current), y).backward()
        if norm == "Linf":
            current = current + step * current.grad.sign()
            current = torch.min(torch.max(current, x - epsilon), x + epsilon)
        else:
            current = (
                current
                + step * current.grad / current.grad.flatten(1).norm(dim=1)[:, None, None, None]
            )
            delta = current - x
            size = delta.flatten(1).norm(dim=1)[:, None, None, None]
            current = x + torch.where(size > epsilon, delta * epsilon / size, delta)
        current = current.clamp(0, 1)
    attack = PGD(steps=12, step_size=step, early_exit=False, last=True)
    found = attack(model, x, y, Threat(epsilon, norm=norm), start=start)
    torch.testing.assert_close(found, current.detach(), atol=1e-9, rtol=0)


def test_one_pgd_step_of_length_epsilon_is_fgsm():
    model = linear()
    x, _ = batch()
    y = model(x).argmax(1)  # all right, so that none leaves at once
    pgd = PGD(steps=1, step_size=0.1, random_start=False)(model, x, y, THREAT)
    torch.testing.assert_close(pgd, FGSM()(model, x, y, THREAT))


@pytest.mark.parametrize("attack", EVERY)
@pytest.mark.parametrize("threat", [THREAT, Threat(0.3), Threat(8.0, 0, 255), Threat(0.5, -1, 1)])
def test_examples_obey_the_threat(attack, threat):
    model, (x, y) = linear(), batch()
    x = threat.low + (threat.high - threat.low) * x
    attack = dataclasses.replace(attack, **(
        {"step_size": threat.epsilon / 4} if isinstance(attack, PGD) else {}
    ))  # fmt: skip
    x_adv = attack(model, x, y, threat)
    assert threat.verify(x, x_adv).all()
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad


def test_verify_catches_each_fault():
    x = torch.full((4, 1, 2, 2), 0.05)
    x_adv = x.clone()
    x_adv[1, 0, 0, 0] += 0.1001
    x_adv[2, 0, 0, 0] = -0.01
    x_adv[3, 0, 0, 0] = float("nan")
    assert THREAT.verify(x, x_adv).tolist() == [True, False, False, False]


@pytest.mark.parametrize("attack", EVERY)
def test_the_model_and_the_global_generator_are_left_alone(attack):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(8, 3)
    )
    model.train()
    model[1].eval()  # modes that differ must come back as they were
    model[0].weight.requires_grad_(False)
    x, y = batch()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    generator = torch.get_rng_state()
    attack(model, x, y, THREAT)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_model_comes_back_after_an_error():
    model = linear().train()

    def broken(logits, labels):
        raise RuntimeError("loss")

    with pytest.raises(RuntimeError):
        PGD(loss=broken)(model, *batch(), THREAT)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_callers_without_gradients(context):
    model, (x, y) = linear(), batch()
    expected = PGD()(model, x, y, THREAT)
    with context():
        x, y = x.clone(), y.clone()
        torch.testing.assert_close(PGD()(model, x, y, THREAT), expected)
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("attack", [*EVERY, APGD(steps=5), FAB(steps=3), Square(queries=20)])
def test_hooks_and_compiled_models(attack):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    x, y = batch()
    expected = attack(model, x, y, THREAT)
    seen = []
    hook = model[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    torch.testing.assert_close(attack(model, x, y, THREAT), expected)
    assert seen
    calls = len(seen)
    model(x)
    assert len(seen) == calls + 1  # the hook is still there
    hook.remove()
    compiled = torch.compile(model, backend="eager", dynamic=True)
    torch.testing.assert_close(attack(compiled, x, y, THREAT), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_a_model_on_another_device():
    model, (x, y) = linear(), batch()
    expected = PGD()(model, x, y, THREAT)
    found = PGD()(model.cuda(), x, y, THREAT)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("attack", [FGSM(), PGD(), APGD(), FAB(), Square(), SPSA()])
def test_bad_input_to_an_attack(attack):
    model, (x, y) = linear(), batch()
    cases = [
        (model, x * 2, y, "outside the declared range"),
        (model, x.double().fill_(float("nan")), y, "outside the declared range"),
        (model, x.bfloat16(), y, "float32"),
        (model, x, y + 3, "labels lie outside"),
        (model, x, y.float(), "int64"),
        (model, x, y[1:], "40 inputs and 39 labels"),
        (nn.Sequential(model, nn.Unflatten(1, (3, 1))), x, y, "give .B, C."),
    ]
    for target, inputs, labels, message in cases:
        with pytest.raises(UserError, match=message):
            attack(target, inputs, labels, THREAT)
    assert attack(model, x[:0], y[:0], THREAT).shape == (0, 1, 3, 4)


def test_progress_within_an_attack():
    shares = []
    with AttackedModel(linear()) as model:
        model.on_progress = shares.append
        AutoAttack("own", (PGD(steps=4), APGD(steps=4, targets=2), Square(queries=8)))(
            model, *batch(), Threat(0.01)
        )
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1


class TestEarlyExit:
    @pytest.mark.parametrize("restarts", [1, 3])
    def test_flags_are_the_same_without_it(self, digits, digits_run, restarts):
        model = digits_run.load_model()
        x, y = digits.test_images.float() / 255, digits.test_labels
        attack = PGD(steps=10, step_size=0.02, restarts=restarts)
        fast = model(attack(model, x, y, THREAT)).argmax(1) != y
        slow_attack = dataclasses.replace(attack, early_exit=False)
        slow = model(slow_attack(model, x, y, THREAT)).argmax(1) != y
        assert torch.equal(fast, slow)
        assert 0 < fast.sum() < len(y)

    def test_it_saves_gradients(self, digits, digits_run):
        counts = []
        for early_exit in (True, False):
            with AttackedModel(digits_run.load_model()) as model:
                x, y = digits.test_images.float() / 255, digits.test_labels
                PGD(steps=10, early_exit=early_exit)(model, x, y, Threat(0.3))
            counts.append(model.gradients)
        assert counts[0] < counts[1] == 10 * len(y)

    def test_a_sample_does_not_depend_on_its_batch(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:60].float() / 255, digits.test_labels[:60]
        whole = PGD(steps=5)(model, x, y, THREAT)
        some = torch.tensor([50, 3, 17])
        part = PGD(steps=5)(model, x[some], y[some], THREAT, indices=some)
        torch.testing.assert_close(part, whole[some], atol=1e-5, rtol=0)


def test_random_starts_are_keyed():
    x = torch.zeros(5, 2, 3)
    noise = keyed(x, torch.arange(5), 0, "start", 0)
    picked = keyed(x[:2], torch.tensor([4, 1]), 0, "start", 0)
    assert torch.equal(picked, noise[[4, 1]])
    assert not torch.equal(noise, keyed(x, torch.arange(5), 1, "start", 0))
    assert not torch.equal(noise, keyed(x, torch.arange(5), 0, "start", 1))
    assert noise.abs().max() <= 1


def test_restarts_never_help_the_model(digits, digits_run):
    model = digits_run.load_model()
    x, y = digits.test_images.float() / 255, digits.test_labels
    robust = [
        set((model(PGD(steps=5, restarts=r)(model, x, y, THREAT)).argmax(1) == y).nonzero()[:, 0]
            .tolist())
        for r in (1, 2, 4)
    ]  # fmt: skip
    assert robust[2] <= robust[1] <= robust[0]


@pytest.mark.parametrize("name", ATTACK_LOSSES)
def test_attack_losses_rise_where_the_model_errs(name):
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    labels = torch.tensor([0, 0])
    right, wrong = ATTACK_LOSSES[name](logits, labels)
    assert right < wrong


def test_any_function_can_be_the_loss():
    model, (x, y) = linear(), batch()

    def negative_logit(logits, labels):
        return -logits.gather(1, labels[:, None])[:, 0]

    assert THREAT.verify(x, PGD(loss=negative_logit)(model, x, y, THREAT)).all()


def test_a_real_network_in_channels_last(digits):
    model = build_model("lenet5").to(memory_format=torch.channels_last)
    x, y = digits.test_images[:20].float() / 255, digits.test_labels[:20]
    assert THREAT.verify(x, PGD(steps=3)(model, x, y, THREAT)).all()


def test_registry():
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert all(f.name for f in dataclasses.fields(attack))


class Detached(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3].detach()


REFUSED = [
    (lambda: Threat(0), "epsilon is 0"),
    (lambda: Threat(-1), "epsilon is -1"),
    (lambda: Threat(float("nan")), "epsilon is nan"),
    (lambda: Threat(0.1, 1, 0), "range"),
    (lambda: Threat(0.1, 0, float("inf")), "endless"),
    (lambda: Threat(0.1, norm="L1"), "Linf, L2"),
    (lambda: THREAT.check_inputs(torch.rand(2, 3).bfloat16()), "give float32"),
    (lambda: PGD(steps=1.5), "steps is 1.5"),
    (lambda: THREAT.check_inputs(torch.full((2, 3), 1.5)), r"span \[1.5, 1.5\], outside"),
    (lambda: THREAT.check_inputs(torch.tensor([0.5, float("nan")])), "outside the declared"),
    (lambda: PGD(steps=0), "steps is 0"),
    (lambda: PGD(step_size=0), "step_size is 0"),
    (lambda: PGD(restarts=0), "restarts is 0"),
    (lambda: PGD(restarts=2, random_start=False), "repeat each other"),
    (lambda: PGD(loss="kl"), "ce, margin"),
    (lambda: FGSM(loss="kl"), "ce, margin"),
    (lambda: APGD(steps=0), "steps is 0"),
    (lambda: APGD(targets=-1), "targets is -1"),
    (lambda: FGSM()(Detached(), *batch(), THREAT), "no gradient"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call()


class TestBeyondPgd:
    def test_the_last_iterate_is_plain_pgd(self):
        model, (x, y) = linear(), batch()
        last = PGD(steps=7, step_size=0.03, last=True, random_start=False)(model, x, y, THREAT)
        plain = x.clone()
        for _ in range(7):
            plain.requires_grad_()
            loss = nn.functional.cross_entropy(model(plain), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, plain)
            plain = plain.detach() + 0.03 * gradient.sign()
            plain = torch.minimum(torch.maximum(plain, x - 0.1), x + 0.1).clamp(0, 1)
        torch.testing.assert_close(last, plain)

    def test_spsa_estimates_the_gradient(self):
        model, (x, y) = linear(), batch(4)
        with AttackedModel(model) as attacked:
            exact, _, _ = attacked.gradient(x, y, ATTACK_LOSSES["margin"])
            estimate = SPSA(directions=20_000)._estimate(
                attacked, x, y, ATTACK_LOSSES["margin"], torch.Generator().manual_seed(0)
            )
        torch.testing.assert_close(estimate, exact, atol=0.05, rtol=0)

    def test_spsa_breaks_a_model_without_gradients(self, digits, digits_run):
        class Rounded(nn.Module):
            """Gradients are zero everywhere, differences are not."""

            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                return self.model(x + ((x * 200).round() / 200 - x).detach() * 1 - (x - x.detach()))

        model = Rounded(digits_run.load_model())
        x, y = digits.test_images[:30].float() / 255, digits.test_labels[:30]
        threat = Threat(0.15)
        blind = (model(PGD()(model, x, y, threat)).argmax(1) == y).sum()
        x_adv = SPSA(steps=40, directions=32)(model, x, y, threat)
        assert threat.verify(x, x_adv).all()
        assert (model(x_adv).argmax(1) == y).sum() < blind - 5

    def test_leaving_changes_nothing_for_the_others(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:12].float() / 255, digits.test_labels[:12]
        some = torch.tensor([3, 7, 9])
        for attack in (SPSA(steps=3, directions=4), Square(queries=20), APGD(steps=5)):
            whole = attack(model, x, y, THREAT)
            part = attack(model, x[some], y[some], THREAT, indices=some)
            torch.testing.assert_close(part, whole[some], atol=1e-4, rtol=0)

    def test_transfer(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:60].float() / 255, digits.test_labels[:60]
        itself = Transfer((model,))(model, x, y, THREAT)
        assert THREAT.verify(x, itself).all()
        white = (model(PGD(last=True)(model, x, y, THREAT)).argmax(1) == y).sum()
        assert (model(itself).argmax(1) == y).sum() == white
        stranger = build_model("small-cnn").eval()  # knows nothing: nothing travels
        weak = (model(Transfer((stranger,))(model, x, y, THREAT)).argmax(1) == y).sum()
        assert weak > white
        with pytest.raises(UserError, match="at least one surrogate"):
            Transfer(())

    def test_curve_falls_and_is_no_weaker_than_separate_attacks(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:80].float() / 255, digits.test_labels[:80]
        epsilons = [0.02, 0.05, 0.1, 0.5]
        flags = robustness_curve(model, x, y, THREAT, epsilons, steps=10)
        assert flags.shape == (4, 80)
        for smaller, larger in itertools.pairwise(flags):
            assert not (larger & ~smaller).any()
        assert flags[-1].float().mean() < 0.2
        alone = model(PGD(10, 0.025)(model, x, y, THREAT)).argmax(1) == y
        assert flags[2].sum() <= alone.sum() + 2
        with pytest.raises(UserError, match="rising radii"):
            robustness_curve(model, x, y, THREAT, [0.1, 0.1])

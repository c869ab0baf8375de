"""The contract of every attack: what it obeys, leaves alone and refuses."""

import dataclasses

import pytest
import torch
from torch import nn

from robustpolicy import FGSM, PGD, Threat, UserError
from robustpolicy.attacks import (
    APGD,
    ATTACKS,
    FAB,
    SPSA,
    AttackedModel,
    AutoAttack,
    Square,
)
from robustpolicy.models import build_model
from tests.attacks.cases import THREAT, batch, linear

EVERY = [FGSM(), PGD(steps=5), PGD(steps=3, restarts=3), PGD(steps=5, random_start=False),
         FGSM("margin"), PGD(steps=5, loss="margin")]  # fmt: skip


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

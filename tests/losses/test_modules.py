"""The module forms, the two stages, and what they refuse."""

import pytest
import torch
import torch.nn.functional as F

from robustpolicy import UserError
from robustpolicy.losses import (
    AlternativeLoss,
    PolicyLoss,
    TwoStageLoss,
    alternative_loss,
    policy_loss,
)
from tests.losses.cases import batch

LOGITS, LABELS = batch((16, 10))


def test_modules_are_the_means_of_the_functions():
    torch.testing.assert_close(
        PolicyLoss(1.5)(LOGITS, LABELS), policy_loss(LOGITS, LABELS, penalty=1.5).mean()
    )
    torch.testing.assert_close(
        AlternativeLoss(0.75, actions="greedy", reduction="none")(LOGITS, LABELS),
        alternative_loss(LOGITS, LABELS, penalty=0.75, actions="greedy"),
    )


def test_amounts_per_class_move_with_the_module_and_stay_out_of_the_state():
    loss = PolicyLoss(penalty=[0.5] * 9 + [2.0])
    assert loss.double()(LOGITS, LABELS).dtype == torch.float64
    assert not loss.state_dict()


def test_reward_function_sees_the_inputs():
    inputs = torch.randn(16, 3)

    def reward_fn(x, y):
        assert x is inputs
        return torch.full((16, 10), -1.0).scatter_(1, y[:, None], 1.0)

    loss = PolicyLoss(reward_fn=reward_fn)
    torch.testing.assert_close(loss(LOGITS, LABELS, inputs), PolicyLoss(1.0)(LOGITS, LABELS))


def test_two_stages():
    loss = TwoStageLoss(penalty=1.5, warmup_penalty=0.75, warmup_actions="greedy")
    warm = alternative_loss(LOGITS, LABELS, penalty=0.75, actions="greedy").mean()
    torch.testing.assert_close(loss(LOGITS, LABELS), warm)
    assert not loss.observe(0.8)  # must exceed
    assert loss.stage == 1
    assert loss.observe(0.81)
    assert not loss.observe(0.99)
    loss.observe(0.1)
    assert loss.stage == 2  # never back
    second = policy_loss(LOGITS, LABELS, penalty=1.5).mean()
    torch.testing.assert_close(loss(LOGITS, LABELS), second)


def test_ablations():
    first = TwoStageLoss(warmup="cross-entropy")
    torch.testing.assert_close(first(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))
    alone = TwoStageLoss(penalty=1.0, warmup="none")
    assert alone.stage == 2


def test_stage_survives_a_checkpoint(tmp_path):
    loss = TwoStageLoss()
    loss.observe(0.9)
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    other = TwoStageLoss()
    other.load_state_dict(torch.load(tmp_path / "loss.pt", weights_only=True))
    assert other.stage == 2


def test_sampling_uses_the_given_generator():
    def value(seed):
        generator = torch.Generator().manual_seed(seed)
        return AlternativeLoss(actions="sampled", generator=generator)(LOGITS, LABELS)

    assert value(1) == value(1)
    assert value(1) != value(2)


@pytest.mark.parametrize("penalty", [1.5, [1.5] * 10])
def test_compiles_without_a_graph_break(penalty):
    explanation = torch._dynamo.explain(PolicyLoss(penalty))(LOGITS.float(), LABELS)
    assert explanation.graph_break_count == 0


def test_a_reward_model_is_not_trained_through_the_loss():
    table = torch.zeros(16, 10, requires_grad=True)
    for loss in (PolicyLoss, AlternativeLoss):
        for actions in ("greedy", "sampled", "expected"):
            loss(actions=actions, reward_fn=lambda x, y: table * 2)(LOGITS, LABELS).backward()
    assert table.grad is None


def test_an_empty_batch_has_no_loss():
    for loss in (PolicyLoss, AlternativeLoss):
        for actions in ("greedy", "sampled", "expected"):
            assert loss(actions=actions)(LOGITS[:0], LABELS[:0]) == 0


def test_a_large_batch_keeps_its_digits():
    logits, labels = batch((4096, 1000), dtype=torch.float32)
    exact = policy_loss(logits.double(), labels, actions="expected", reduction="mean")
    ours = policy_loss(logits, labels, actions="expected", reduction="mean")
    torch.testing.assert_close(ours.double(), exact, rtol=1e-6, atol=0)


C, Y = LOGITS, LABELS
REFUSED = [
    (lambda: policy_loss(C, Y.float()), "labels are torch.float32"),
    (lambda: policy_loss(C, F.one_hot(Y, 10).double()), "argmax"),
    (lambda: policy_loss(C, F.one_hot(Y, 10)), r"labels have shape \(16, 10\)"),
    (lambda: policy_loss(C, Y.int()), "use labels.long()"),
    (lambda: policy_loss(C, Y[:-1]), r"shape \(15,\)"),
    (lambda: policy_loss(C[:, :1], Y), "C >= 2"),
    (lambda: policy_loss(C[0], Y), "give \\(B, C\\)"),
    (lambda: policy_loss(Y[:, None].repeat(1, 3), Y), "floating-point"),
    (lambda: policy_loss(C, Y, penalty=-0.1), "penalty is -0.1"),
    (lambda: policy_loss(C, Y, reward=-1), "reward is -1"),
    (lambda: policy_loss(C, Y, reward=float("nan")), "reward is nan"),
    (lambda: policy_loss(C, Y, reward=float("inf")), "reward is inf"),
    (lambda: policy_loss(C, Y, reward=0, penalty=0), "both zero"),
    (lambda: policy_loss(C, Y, penalty=torch.tensor([-1.0] * 10)), "penalty is"),
    (lambda: policy_loss(C, Y, penalty=torch.ones(3)), r"penalty has shape \(3,\)"),
    (
        lambda: policy_loss(C, Y, reward=torch.zeros(10), penalty=torch.eye(10)[0]),
        "both zero",
    ),
    (lambda: policy_loss(C, Y, actions="random"), "greedy, sampled, expected"),
    (lambda: policy_loss(C, Y, reduction="max"), "none, mean, sum"),
    (lambda: policy_loss(C, None), "labels is None"),
    (lambda: policy_loss(C, Y, rewards=torch.ones(16)), "rewards have shape"),
    (lambda: policy_loss(C, Y + 1, validate=True), r"outside \[0, 9\]"),
    (lambda: policy_loss(C * float("nan"), Y, validate=True), "NaN or inf"),
    (lambda: alternative_loss(C * float("inf"), Y, validate=True), "NaN or inf"),
    (
        lambda: policy_loss(C, Y, rewards=torch.full((16, 10), float("nan")), validate=True),
        "rewards hold NaN",
    ),
    (lambda: policy_loss(C, Y, reward=torch.ones(3), penalty=torch.ones(10)), "shape"),
    (lambda: policy_loss(C, Y, penalty=[1.0] * 10), "penalty is a list"),
    (lambda: PolicyLoss(reward_fn=lambda x, y: None)(C, Y), "reward_fn returned NoneType"),
    (lambda: PolicyLoss("much"), "no amount"),
    (lambda: TwoStageLoss(penalty=torch.ones(3))(C, Y), r"penalty has shape \(3,\)"),
    (lambda: TwoStageLoss(warmup="cross-entropy")(C, Y.int()), "labels are torch.int32"),
    (lambda: TwoStageLoss(warmup="cross-entropy", validate=True)(C, Y + 9), "outside"),
    (lambda: TwoStageLoss().set_extra_state(torch.tensor(7)), "saved stage is 7"),
    (lambda: PolicyLoss(-1.0), "penalty is -1"),
    (lambda: PolicyLoss(0.0, 0.0), "both zero"),
    (lambda: PolicyLoss(actions="best"), "actions is 'best'"),
    (lambda: PolicyLoss(reduction="max"), "reduction is 'max'"),
    (lambda: TwoStageLoss(warmup="eq12"), "warmup is 'eq12'"),
    (lambda: TwoStageLoss(threshold=80), "threshold is 80"),
    (lambda: TwoStageLoss().observe(81.0), "not percent"),
    (lambda: TwoStageLoss().observe(float("nan")), "accuracy is nan"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)

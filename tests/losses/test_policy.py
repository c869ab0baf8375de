"""The identities of the mathematics, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from robustpolicy.losses import alternative_loss, policy_loss, sample_actions
from tests.losses.cases import AMOUNTS, SHAPES, batch, eq4, eq12, expectation, gradient, greedy

LOSSES = [(policy_loss, eq4), (alternative_loss, eq12)]


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[1] < 100])
@pytest.mark.parametrize(("r1", "r2"), AMOUNTS)
@pytest.mark.parametrize(("loss", "formula"), LOSSES)
def test_equals_the_papers_formula(loss, formula, shape, r1, r2):
    logits, labels = batch(shape)
    for actions, reference in (("expected", expectation), ("greedy", greedy)):
        ours = loss(logits, labels, reward=r1, penalty=r2, actions=actions)
        theirs = reference(formula, logits, labels, r1, r2)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("r1", "r2"), AMOUNTS)
def test_expected_gradient_is_that_of_the_correct_probability(shape, r1, r2):
    # In expectation lambda scales the step: the gradient is -(r1 + r2) grad pi_y.
    logits, labels = batch(shape)
    pi_y = logits.softmax(1).gather(1, labels[:, None])
    ours = gradient(policy_loss(logits, labels, reward=r1, penalty=r2, actions="expected"), logits)
    torch.testing.assert_close(ours, -(r1 + r2) * gradient(pi_y, logits))


@pytest.mark.parametrize(("loss", "formula"), LOSSES)
def test_sampled_gradient_converges_to_the_expected_one(loss, formula):
    logits, labels = batch((6, 5), scale=1.0)
    draws = 20_000
    many = logits.detach().repeat(draws, 1).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    losses = loss(many, labels.repeat(draws), penalty=1.5, actions="sampled", generator=generator)
    samples = gradient(losses, many).view(draws, 6, 5)
    error = samples.std(0) / math.sqrt(draws)
    exact = gradient(loss(logits, labels, penalty=1.5, actions="expected"), logits)
    assert ((samples.mean(0) - exact).abs() <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("loss", [policy_loss, alternative_loss])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_penalty_a_correct_action_is_cross_entropy(loss, shape):
    logits, labels = batch(shape)
    with torch.no_grad():
        logits[torch.arange(len(labels)), labels] += 20  # every greedy action is correct
    ours = loss(logits, labels, reward=1.0, penalty=0.0, actions="greedy")
    reference = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(gradient(ours, logits), gradient(reference, logits))


@pytest.mark.parametrize("r2", [0.1, 1.5])
def test_wrong_action_of_eq12_is_cross_entropy_to_the_uniform_rest(r2):
    logits, labels = batch((64, 10))
    wrong = logits.argmax(1) != labels
    assert 0 < wrong.sum() < 64
    ours = gradient(alternative_loss(logits, labels, penalty=r2, actions="greedy"), logits)
    uniform = torch.full_like(logits, 1 / 9).scatter_(1, logits.argmax(1)[:, None], 0)
    reference = gradient(F.cross_entropy(logits, uniform.detach(), reduction="none"), logits)
    torch.testing.assert_close(ours[wrong], r2 * reference[wrong])


def test_wrong_greedy_action_is_bounded():
    logits, labels = batch((500, 10), scale=0.3)
    loss = policy_loss(logits, labels, penalty=1.5)
    wrong = logits.argmax(1) != labels
    assert (loss[wrong] <= 0).all()
    assert (loss[wrong] >= -1.5 * math.log(10)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("actions", ["greedy", "sampled", "expected"])
@pytest.mark.parametrize("loss", [policy_loss, alternative_loss])
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_huge_logits_stay_finite(loss, actions, dtype, size):
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 3, (200, 10), generator=generator) - 1
    logits = (size * signs).to(dtype).requires_grad_()
    labels = torch.randint(10, (200,), generator=generator)
    value = loss(logits, labels, penalty=1.5, actions=actions, generator=generator)
    assert torch.isfinite(value).all()
    assert value.dtype == dtype
    assert torch.isfinite(gradient(value, logits)).all()


@pytest.mark.parametrize("actions", ["greedy", "sampled", "expected"])
@pytest.mark.parametrize("loss", [policy_loss, alternative_loss])
class TestRewards:
    """Numbers, one amount a class, and a whole table are three ways to say the same."""

    def value(self, loss, actions, **rewards):
        logits, labels = batch((64, 10))
        generator = torch.Generator().manual_seed(5)
        given = loss(logits, labels, actions=actions, generator=generator, **rewards)
        return given, gradient(given, logits)

    def test_constant_class_amounts_equal_the_number(self, loss, actions):
        number = self.value(loss, actions, reward=0.7, penalty=1.5)
        classes = self.value(
            loss, actions, reward=torch.full((10,), 0.7), penalty=torch.full((10,), 1.5)
        )
        torch.testing.assert_close(classes, number, rtol=1e-6, atol=1e-7)  # float32 amounts

    def test_class_amounts_are_indexed_by_the_true_class(self, loss, actions):
        _logits, labels = batch((64, 10))
        penalty = torch.arange(10, dtype=torch.float64)
        whole, _ = self.value(loss, actions, reward=1.0, penalty=penalty)
        for k in range(10):
            single, _ = self.value(loss, actions, reward=1.0, penalty=float(k))
            torch.testing.assert_close(whole[labels == k], single[labels == k])

    def test_a_table_equals_the_amounts(self, loss, actions):
        _, labels = batch((64, 10))
        table = torch.full((64, 10), -1.5, dtype=torch.float64).scatter_(1, labels[:, None], 0.7)
        by_table = self.value(loss, actions, rewards=table)
        torch.testing.assert_close(by_table, self.value(loss, actions, reward=0.7, penalty=1.5))

    def test_reductions(self, loss, actions):
        each, by_sum = (self.value(loss, actions, reduction=r) for r in ("none", "sum"))
        mean, gradient_of_mean = self.value(loss, actions, reduction="mean")
        torch.testing.assert_close(by_sum[0], each[0].sum())
        torch.testing.assert_close(by_sum[1], each[1])
        torch.testing.assert_close(mean, each[0].mean())
        torch.testing.assert_close(gradient_of_mean, each[1] / 64)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("actions", ["greedy", "sampled", "expected"])
@pytest.mark.parametrize("loss", [policy_loss, alternative_loss])
@pytest.mark.parametrize("autocast", [True, False])
def test_low_precision(loss, actions, reduction, autocast):
    exact, labels = batch((256, 10), dtype=torch.float32)
    low = exact.detach().to(torch.bfloat16).requires_grad_()
    values = []
    for logits in (low.detach().float(), low):
        generator = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            values.append(
                loss(
                    logits, labels, penalty=torch.linspace(0.5, 1.5, 10), actions=actions,
                    generator=generator, reduction=reduction,
                )
            )  # fmt: skip
    values[1].sum().backward()
    assert torch.isfinite(low.grad).all()
    tolerance = 0.02 * values[0].abs().max() + 0.02
    assert (values[1].float() - values[0]).abs().max() <= tolerance


def test_unlabelled_rewards_need_no_labels():
    logits, labels = batch((8, 4))
    table = torch.randn(8, 4, dtype=torch.float64)
    given = policy_loss(logits, None, rewards=table, actions="expected")
    torch.testing.assert_close(
        given, policy_loss(logits, labels, rewards=table, actions="expected")
    )


class TestSampling:
    def test_frequencies_are_the_policy(self):
        logits = torch.tensor([[0.0, 1.0, 2.0, -30.0]], dtype=torch.float64)
        n = 200_000
        drawn = sample_actions(logits.expand(n, -1), torch.Generator().manual_seed(0))
        share = torch.bincount(drawn, minlength=4) / n
        pi = logits.softmax(1)[0]
        assert ((share - pi).abs() <= 4 * (pi * (1 - pi) / n).sqrt() + 1e-9).all()

    def test_a_class_of_no_probability_is_never_drawn(self):
        logits = torch.full((100_000, 3), 0.0)
        logits[:, 0] = logits[:, 2] = float("-inf")
        assert (sample_actions(logits, torch.Generator().manual_seed(0)) == 1).all()

    def test_one_seed_one_draw_and_the_global_generator_untouched(self):
        logits, _ = batch((100, 10))
        before = torch.get_rng_state()
        one = sample_actions(logits, torch.Generator().manual_seed(7))
        two = sample_actions(logits, torch.Generator().manual_seed(7))
        assert torch.equal(one, two)
        assert torch.equal(torch.get_rng_state(), before)

    def test_bfloat16_keeps_all_of_1000_classes(self):
        logits = torch.zeros(50_000, 1000, dtype=torch.bfloat16)
        drawn = sample_actions(logits, torch.Generator().manual_seed(0))
        assert len(drawn.unique()) > 990


@pytest.mark.parametrize("classes", [512, 600, 1000, 1021])
def test_many_classes_take_the_greatest(classes):
    logits, labels = batch((50, classes))
    expected = greedy(eq4, logits, labels, 1.0, 1.5)
    torch.testing.assert_close(policy_loss(logits, labels, penalty=1.5), expected)

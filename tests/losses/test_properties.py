"""Properties that hold for any logits, labels and rewards."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustpolicy.losses import alternative_loss, policy_loss
from tests.losses.cases import gradient

amounts = st.floats(0.01, 10)
finite = st.floats(-1e4, 1e4, width=32)


@st.composite
def batches(draw):
    classes = draw(st.integers(2, 8))
    size = draw(st.integers(1, 6))
    row = st.lists(finite, min_size=classes, max_size=classes)
    logits = torch.tensor(draw(st.lists(row, min_size=size, max_size=size)), dtype=torch.float64)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    return logits.requires_grad_(), torch.tensor(labels)


@settings(deadline=None, max_examples=200)
@given(batches(), amounts, amounts, st.sampled_from(["greedy", "sampled", "expected"]))
def test_finite_and_blind_to_a_shift_of_all_logits(batch, reward, penalty, actions):
    logits, labels = batch
    for loss in (policy_loss, alternative_loss):
        given_loss = loss(
            logits,
            labels,
            reward=reward,
            penalty=penalty,
            actions=actions,
            generator=torch.Generator().manual_seed(0),
            validate=True,
        )
        slope = gradient(given_loss, logits)
        assert torch.isfinite(given_loss).all()
        assert torch.isfinite(slope).all()
        # A softmax does not see a common shift, so no gradient points along it.
        assert slope.sum(1).abs().max() <= 1e-9 * max(1.0, reward + penalty)


@settings(deadline=None, max_examples=200)
@given(batches(), amounts, amounts)
def test_signs_and_bounds(batch, reward, penalty):
    logits, labels = batch
    warm = alternative_loss(logits, labels, reward=reward, penalty=penalty, actions="greedy")
    assert (warm >= 0).all()
    greedy = policy_loss(logits, labels, reward=reward, penalty=penalty)
    correct = logits.argmax(1) == labels
    assert (greedy[correct] >= 0).all()
    bound = penalty * math.log(logits.shape[1])
    assert ((greedy[~correct] <= 0) & (greedy[~correct] >= -bound - 1e-9)).all()


@settings(deadline=None, max_examples=100)
@given(batches(), amounts, amounts, st.floats(0.1, 10))
def test_scaling_both_amounts_scales_the_loss(batch, reward, penalty, scale):
    logits, labels = batch
    for loss in (policy_loss, alternative_loss):
        for actions in ("greedy", "expected"):
            one = loss(logits, labels, reward=reward, penalty=penalty, actions=actions)
            many = loss(
                logits, labels, reward=scale * reward, penalty=scale * penalty, actions=actions
            )
            torch.testing.assert_close(many, scale * one)

"""What fused training is made of: losses of many members at once, convolutions by rows."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustpolicy.losses import alternative_loss, policy_loss
from robustpolicy.training.fused.convolution import RowConv2d, use_row_convolutions
from robustpolicy.training.fused.objective import Objective, Terms, present_terms
from robustpolicy.training.recipe import (
    CrossEntropy,
    TwoStage,
)

TERMS = [
    Terms(actions, alternative, reward, penalty)
    for actions in ("greedy", "sampled", "expected")
    for alternative in (False, True)
    for reward, penalty in ((1.0, 0.75), (0.5, 0.0), (0.0, 2.0))
]


def test_the_losses_are_the_public_ones():
    terms = [Terms("label", False, 1.0, 0.0), *TERMS]
    shape = len(terms), 40, 5
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    logits[:, 0] = torch.tensor([1e4, -1e4, 0, 0, 0])
    labels = torch.randint(5, shape[:2], generator=generator)
    logits.requires_grad_()
    u = torch.stack([draws(number, shape[1]) for number in range(len(terms))])
    losses = Objective(terms, logits)(logits, labels, u)
    (gradients,) = torch.autograd.grad(losses.sum(), logits)
    for number, term in enumerate(terms):
        own = logits[number].detach().requires_grad_()
        if term.actions == "label":
            expected = F.cross_entropy(own, labels[number])
        else:
            loss = alternative_loss if term.alternative else policy_loss
            expected = loss(
                own,
                labels[number],
                reward=term.reward,
                penalty=term.penalty,
                actions=term.actions,
                generator=torch.Generator().manual_seed(number),
                reduction="mean",
            )
        torch.testing.assert_close(losses[number], expected)
        torch.testing.assert_close(gradients[number], torch.autograd.grad(expected, own)[0])


def draws(seed, n):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_terms_of_each_stage():
    loss = TwoStage(0.5, 0.25, 2.0, actions="expected", warmup_actions="greedy")
    assert present_terms(loss, 1) == Terms("greedy", True, 2.0, 0.25)
    assert present_terms(loss, 2) == Terms("expected", False, 2.0, 0.5)
    cross_entropy = Terms("label", False, 1.0, 0.0)
    assert present_terms(CrossEntropy(), None) == cross_entropy
    assert present_terms(dataclasses.replace(loss, warmup="cross-entropy"), 1) == cross_entropy


@pytest.mark.parametrize("padding", [0, (2, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_row_convolution_is_a_convolution(padding, bias):
    conv = nn.Conv2d(3, 4, (5, 3), padding=padding, bias=bias).double()
    rows = nn.Sequential(conv, nn.Conv2d(4, 4, 3, stride=2))
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    expected = conv(x)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *conv.parameters()])
    use_row_convolutions(rows)
    assert (type(rows[0]), type(rows[1])) == (RowConv2d, nn.Conv2d)
    found = rows[0](x)
    torch.testing.assert_close(found, expected)
    found = torch.autograd.grad(found.square().sum(), [x, *conv.parameters()])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)

"""A teacher in place of labels."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustpolicy import AlternativeLoss, PolicyLoss, TwoStageLoss, UserError
from robustpolicy.models import LeNet5
from robustpolicy.training.reward_model import UNLABELLED, RewardModel
from tests.losses.cases import batch, gradient

LOGITS, LABELS = batch((16, 10))
CERTAIN = 1e4 * F.one_hot(LABELS, 10).double()  # what a certain teacher would say, as its input
UNSURE = torch.randn(16, 10, generator=torch.Generator().manual_seed(1)).double()
PER_CLASS = torch.linspace(0.5, 2, 10, dtype=torch.float64)


@pytest.mark.parametrize("actions", ["greedy", "sampled", "expected"])
@pytest.mark.parametrize("loss", [PolicyLoss, AlternativeLoss])
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("amounts", [(1.5, 1.0), (0.0, 1.0), (PER_CLASS, PER_CLASS.flip(0))])
def test_a_certain_teacher_gives_the_labelled_loss(loss, actions, hard, amounts):
    teacher = RewardModel(nn.Identity(), *amounts, hard=hard)
    values = []
    for reward_fn, labels in ((None, LABELS), (teacher, None)):
        generator = torch.Generator().manual_seed(0)
        loss_fn = loss(*amounts, actions=actions, reward_fn=reward_fn, generator=generator)
        value = loss_fn(LOGITS, labels, CERTAIN)
        values.append((value, gradient(value, LOGITS)))
    torch.testing.assert_close(values[1], values[0])


def test_rewards_are_expected_under_the_belief():
    p = UNSURE.softmax(1)
    torch.testing.assert_close(
        RewardModel(nn.Identity(), 1.5, 0.7)(UNSURE), 0.7 * p - 1.5 * (1 - p)
    )
    rewards = RewardModel(nn.Identity(), PER_CLASS, PER_CLASS.flip(0))(UNSURE)
    exact = torch.zeros(16, 10, dtype=torch.float64)
    for a in range(10):
        for y in range(10):
            exact[:, a] += p[:, y] * (PER_CLASS.flip(0)[a] if a == y else -PER_CLASS[y])
    torch.testing.assert_close(rewards, exact)


def test_known_labels_are_used():
    labels = LABELS.clone()
    labels[8:] = UNLABELLED
    rewards = RewardModel(nn.Identity())(UNSURE, labels)
    torch.testing.assert_close(rewards[:8], 2 * F.one_hot(LABELS[:8], 10).double() - 1)
    torch.testing.assert_close(rewards[8:], RewardModel(nn.Identity())(UNSURE)[8:])
    loss = TwoStageLoss(actions="sampled", baseline="mean", reward_fn=RewardModel(nn.Identity()))
    for _ in range(2):
        assert torch.isfinite(loss(LOGITS, labels, UNSURE))
        loss.observe(0.9)


def test_the_teacher_is_frozen_and_stays_out_of_the_loss():
    teacher = nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10), nn.Dropout()).double()
    reward = RewardModel(teacher)
    loss = PolicyLoss(reward_fn=reward).train()
    before = reward(UNSURE)
    loss(LOGITS, None, UNSURE).backward()
    with torch.no_grad():
        teacher[0].weight.zero_()  # the original trains on
    assert torch.equal(reward(UNSURE), before)
    assert teacher.training
    assert teacher[0].weight.requires_grad
    assert teacher[0].weight.grad is None
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_bad_input_is_refused_in_words():
    with pytest.raises(UserError, match="inputs is None"):
        PolicyLoss(reward_fn=RewardModel(nn.Identity()))(LOGITS, LABELS)
    with pytest.raises(UserError, match="penalty is -1"):
        RewardModel(nn.Identity(), -1.0)
    with pytest.raises(UserError, match="penalty has shape"):
        RewardModel(nn.Identity(), torch.ones(3))(UNSURE)


def fit(model, images, epochs, loss_of):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(32):
            optimizer.zero_grad()
            loss_of(model(images[chosen]), chosen).backward()
            optimizer.step()


@pytest.mark.mnist
def test_a_student_learns_mnist_without_labels(mnist):
    """It and its teacher begin with the same 1,000 labels, the teacher for longer."""
    torch.manual_seed(0)
    images, labels = mnist.train_images[:9000].float() / 255, mnist.train_labels[:1000]
    labelled, rest = images[:1000], images[1000:]
    test, truth = mnist.test_images[:2000].float() / 255, mnist.test_labels[:2000]

    def accuracy(model):
        with torch.no_grad():
            return (model(test).argmax(1) == truth).double().mean()

    teacher, student = LeNet5(), LeNet5()
    fit(teacher, labelled, 30, lambda q, chosen: F.cross_entropy(q, labels[chosen]))
    fit(student, labelled, 6, lambda q, chosen: F.cross_entropy(q, labels[chosen]))
    before = accuracy(student)
    loss_fn = PolicyLoss(actions="expected", reward_fn=RewardModel(teacher))
    fit(student, rest, 1, lambda q, chosen: loss_fn(q, None, rest[chosen]))
    assert accuracy(student) > before + 0.05
    assert accuracy(student) > accuracy(teacher) - 0.03

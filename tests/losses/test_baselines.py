"""PC, GCE and MMC against their published formulas, term by term."""

import math

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.losses import GCELoss, MMCLoss, PCLoss, gce_loss, mmc_loss, pc_loss
from tests.losses.cases import batch, gradient


def pc_by_hand(q, y, xi=0.995, c=0.05):
    pi, classes = q.softmax(0), len(q)
    others = [j for j in range(classes) if j != y]
    hinge = sum(torch.clamp(pi[j] - pi[y] + xi, min=0) for j in others) / (classes - 1)
    total = sum(q[j].exp() for j in others)
    pull = sum(q[j].exp() / total * torch.clamp(q[y] - q[j], min=0) for j in others)
    return hinge + c * pull


def gce_by_hand(q, y, alpha=1 / 3):
    p = q.softmax(0)
    g = [p[j] / (1 - p[y]) for j in range(len(q)) if j != y]
    return p[y] ** alpha * sum(v * v.log() for v in g) / math.log(len(q))


def mmc_by_hand(q, y):
    return -q[y]


FORMULAS = [(pc_loss, pc_by_hand), (gce_loss, gce_by_hand), (mmc_loss, mmc_by_hand)]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize(("loss", "by_hand"), FORMULAS)
def test_equals_the_formula_and_its_gradient(loss, by_hand, classes):
    logits, labels = batch((20, classes))
    ours = loss(logits, labels)
    theirs = torch.stack([by_hand(q, y) for q, y in zip(logits, labels.tolist(), strict=True)])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


@pytest.mark.parametrize("loss", [pc_loss, gce_loss, mmc_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_stay_finite(loss, dtype):
    signs = torch.randint(0, 3, (200, 10), generator=torch.Generator().manual_seed(0)) - 1
    logits = (1e4 * signs).to(dtype).requires_grad_()
    value = loss(logits, torch.randint(10, (200,)))
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient(value, logits)).all()


def test_bounds():
    logits, labels = batch((500, 10))
    assert (pc_loss(logits, labels) >= 0).all()
    gce = gce_loss(logits, labels)
    assert (gce <= 0).all()
    assert (gce >= -math.log(9) / math.log(10) - 1e-9).all()
    best = torch.full((1, 10), 0.0, dtype=torch.float64)
    best[0, 3] = 30  # sure of the label, even among the rest
    expected = torch.tensor([-math.log(9) / math.log(10)], dtype=torch.float64)
    torch.testing.assert_close(gce_loss(best, torch.tensor([3])), expected)


def test_pc_begins_after_its_epochs_of_cross_entropy():
    logits, labels = batch((20, 5))
    loss = PCLoss(warmup=2)
    seen = []
    for _ in range(4):
        seen.append((loss.stage, loss(logits, labels)))
        state = loss.state_dict()
        loss = PCLoss(warmup=2)
        loss.load_state_dict(state)  # as a resumed training does
        loss.observe(0.5)
    assert [stage for stage, _ in seen] == [1, 1, 2, 2]
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(seen[1][1], cross_entropy)
    torch.testing.assert_close(seen[2][1], pc_loss(logits, labels).mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: PCLoss(2.0), "margin is 2"), (lambda: GCELoss(-1.0), "alpha is -1")],
)
def test_bad_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_mmc_as_a_module_is_the_mean():
    logits, labels = batch((20, 5))
    torch.testing.assert_close(MMCLoss()(logits, labels), mmc_loss(logits, labels).mean())


@pytest.mark.parametrize("loss", [pc_loss, gce_loss, mmc_loss])
def test_bad_input(loss):
    logits, labels = batch((4, 3))
    with pytest.raises(UserError, match="labels are"):
        loss(logits, labels.float())
    with pytest.raises(UserError, match="outside"):
        loss(logits, labels + 3, validate=True)

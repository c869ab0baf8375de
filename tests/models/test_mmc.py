"""Max-Mahalanobis centres and the layer that measures distances to them."""

import math

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.losses import mmc_loss
from robustpolicy.models import MaxMahalanobis, max_mahalanobis_centers

SPACES = [(2, 1), (2, 8), (3, 2), (10, 9), (10, 256), (101, 100)]


@pytest.mark.parametrize(("classes", "dim"), SPACES)
def test_the_centres_are_a_simplex(classes, dim):
    centers = max_mahalanobis_centers(classes, dim)
    assert centers.shape == (classes, dim)
    one = torch.eye(classes, dtype=torch.float64)
    expected = one - (1 - one) / (classes - 1)
    torch.testing.assert_close(centers @ centers.T, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(centers.sum(0), torch.zeros(dim).double(), rtol=0, atol=1e-12)
    assert torch.equal(centers, centers.tril())  # each needs one more axis than the last


def test_the_centres_of_three_classes():
    half = math.sqrt(3) / 2
    by_hand = torch.tensor([[1, 0], [-0.5, half], [-0.5, -half]], dtype=torch.float64)
    torch.testing.assert_close(max_mahalanobis_centers(3, 2), by_hand)


def test_logits_and_loss_are_squared_distances():
    generator = torch.Generator().manual_seed(0)
    z = 5 * torch.randn(6, 12, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    y = torch.tensor([0, 3, 1, 2, 3, 0])
    head = MaxMahalanobis(4, 12, scale=10.0).double()
    head.centers.copy_(10 * max_mahalanobis_centers(4, 12))  # not by way of float32
    logits, loss = head(z), mmc_loss(head(z), y)
    slope = torch.autograd.grad(loss.sum(), z)[0]
    for i in range(6):
        for k in range(4):
            mu = 10 * max_mahalanobis_centers(4, 12)[k]
            torch.testing.assert_close(logits[i, k], -(torch.dist(z[i], mu) ** 2))
        mu = 10 * max_mahalanobis_centers(4, 12)[y[i]]
        torch.testing.assert_close(loss[i], torch.dist(z[i], mu) ** 2)
        torch.testing.assert_close(slope[i], 2 * (z[i] - mu).detach())


def test_at_a_centre_cross_entropy_is_blind():
    head = MaxMahalanobis(10)
    z = head.centers.clone().requires_grad_()
    logits = head(z)
    wrong = logits[~torch.eye(10, dtype=bool)]
    torch.testing.assert_close(wrong, torch.full_like(wrong, -100 * 20 / 9))
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(10))
    assert not torch.autograd.grad(loss, z)[0].any()  # as the docstring warns


def test_distances_stay_exact_where_products_would_not():
    head = MaxMahalanobis(10)
    z = head.centers + 0.01
    exact = -(z.double()[:, None] - head.centers.double()).square().sum(2)
    torch.testing.assert_close(head(z).double(), exact, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(z), head(z.float()))
        low = head(z.bfloat16())  # as the layer before gives it
    assert low.dtype == torch.float32
    torch.testing.assert_close(low.diagonal(), exact.diagonal().float(), rtol=0, atol=0.03)


def test_nothing_is_learnt_or_saved():
    head = MaxMahalanobis(10)
    assert not head.state_dict()
    assert not list(head.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxMahalanobis(10, 8), "10 centres in 8 dimensions; give at least"),
        (lambda: MaxMahalanobis(1, 8), "at least 2 classes"),
        (lambda: MaxMahalanobis(10, 9, scale=0.0), "scale is 0"),
        (lambda: MaxMahalanobis(10, 9, scale=math.nan), "scale is nan"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(UserError, match=message):
        make()

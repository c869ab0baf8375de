"""Real images for the audit's tests."""

import pytest
import torch

from robustpolicy.data import to_float


@pytest.fixture(scope="module")
def images(mnist):
    chosen = torch.randperm(10_000, generator=torch.Generator().manual_seed(1))[:500]
    return to_float(mnist.test_images[chosen]), mnist.test_labels[chosen]


@pytest.fixture(scope="module")
def train_data(mnist):
    return mnist.train_images, mnist.train_labels

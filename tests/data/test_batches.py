"""Splits, order and augmentation."""

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import Split, epoch_batches, load_dataset, splits, to_float
from robustpolicy.data.batches import PADDING, crop_flip


def test_digits_are_what_scikit_learn_has(digits):
    assert digits.train_images.shape == (1437, 1, 28, 28)
    assert digits.test_images.shape == (360, 1, 28, 28)
    assert digits.train_images.max() == 255
    assert torch.bincount(digits.test_labels).min() >= 25


def test_unknown_data_set_lists_the_known():
    with pytest.raises(UserError, match="digits, mnist, cifar10"):
        load_dataset("imagenet")


def test_protocols(digits):
    train, watched = splits(digits, "paper", 0.1)
    assert len(train) == 1437
    assert torch.equal(watched.images, digits.test_images)
    train, watched = splits(digits, "standard", 0.1)
    assert (len(train), len(watched)) == (1293, 144)
    both = torch.cat([train.images, watched.images]).flatten(1)
    assert sorted(both.tolist()) == sorted(digits.train_images.flatten(1).tolist())
    assert torch.equal(splits(digits, "standard", 0.1)[1].labels, watched.labels)


def test_inputs_span_the_unit_range(digits):
    x = to_float(digits.test_images)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)


def test_an_epoch_has_every_sample_once_and_can_be_entered_midway():
    split = Split(torch.arange(23, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(23))
    labels = [y for _, y, _ in epoch_batches(split, 5, 1)]
    assert [len(y) for y in labels] == [5, 5, 5, 5, 3]
    assert torch.cat(labels).sort().values.tolist() == list(range(23))
    assert torch.cat(labels).tolist() != list(range(23))
    late = [y for _, y, _ in epoch_batches(split, 5, 1, start=3)]
    assert torch.equal(torch.cat(late), torch.cat(labels[3:]))
    other = torch.cat([y for _, y, _ in epoch_batches(split, 5, 2)])
    assert not torch.equal(other, torch.cat(labels))


def test_crop_flip_gives_every_shift_and_both_sides():
    image = torch.arange(1, 3 * 32 * 32 + 1).remainder(251).to(torch.uint8).view(1, 3, 32, 32)
    n = 4000
    out = crop_flip(image.expand(n, -1, -1, -1), torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image, (PADDING,) * 4)
    candidates = {}
    for top in range(9):
        for left in range(9):
            crop = padded[0, :, top : top + 32, left : left + 32]
            candidates[crop.numpy().tobytes()] = (top, left, False)
            candidates[crop.flip(2).contiguous().numpy().tobytes()] = (top, left, True)
    seen = [candidates[picture.contiguous().numpy().tobytes()] for picture in out]
    assert len(set(seen)) == 162  # all of 9 x 9 x 2
    assert 0.45 < sum(flip for _, _, flip in seen) / n < 0.55

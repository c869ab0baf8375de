"""Images without labels: folders, .npy and .npz files."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from robustpolicy import UserError
from robustpolicy.data import load_unlabelled
from tests.pictures import write_pictures

SHAPE = (1, 28, 28)


@pytest.fixture
def pictures(tmp_path, digits):
    written = write_pictures(tmp_path / "pictures", digits, 5)
    return tmp_path / "pictures", written


def test_a_folder_at_any_depth(pictures):
    folder, written = pictures
    images = load_unlabelled(folder, SHAPE)
    expected = torch.stack([written[path] for path in sorted(written)])
    assert torch.equal(images, expected)
    assert torch.equal(load_unlabelled(folder, SHAPE), expected)  # from the cache
    colour = load_unlabelled(folder, (3, 28, 28))
    assert torch.equal(colour, expected.expand(-1, 3, -1, -1))
    assert load_unlabelled(folder, (1, 14, 14), image_size=14).shape == (15, 1, 14, 14)


@pytest.mark.parametrize("form", ["plain", "flat", "last", "float"])
@pytest.mark.parametrize("ending", ["npy", "npz", "named"])
def test_arrays(tmp_path, digits, form, ending):
    expected = digits.train_images[:30]
    images = expected.numpy()
    images = {
        "plain": images,
        "flat": images[:, 0],
        "last": images.transpose(0, 2, 3, 1),
        "float": (images / 255).astype(np.float32),
    }[form]
    path = tmp_path / ("x.npy" if ending == "npy" else "x.npz")
    if ending == "npy":
        np.save(path, images)
    elif ending == "npz":
        np.savez(path, images)
    else:
        np.savez(path, labels=np.zeros(30), images=images)
    assert torch.equal(load_unlabelled(path, SHAPE), expected)
    assert torch.equal(load_unlabelled(str(path), (3, 28, 28)), expected.expand(-1, 3, -1, -1))


def test_what_does_not_fit_is_refused(pictures, tmp_path, digits):
    folder, _ = pictures
    with pytest.raises(UserError, match=r"shape \(1, 28, 28\).*labelled ones have \(1, 32, 32\)"):
        load_unlabelled(folder, (1, 32, 32))
    with pytest.raises(UserError, match="no folder or file"):
        load_unlabelled(tmp_path / "nowhere", SHAPE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no images"):
        load_unlabelled(tmp_path / "empty", SHAPE)
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(UserError, match="holds the arrays a, b; name the one with the images"):
        load_unlabelled(tmp_path / "two.npz", SHAPE)
    np.save(tmp_path / "wide.npy", digits.train_images[:3].numpy() / 100)
    with pytest.raises(UserError, match=r"wide.npy lie in \[0, 2.55\]"):
        load_unlabelled(tmp_path / "wide.npy", SHAPE)
    (tmp_path / "bad.npy").write_bytes(b"text")
    with pytest.raises(UserError, match=r"bad.npy is not a readable .npy"):
        load_unlabelled(tmp_path / "bad.npy", SHAPE)
    colour = folder / "zero" / "colour.png"
    Image.new("RGB", (28, 28), "red").save(colour)
    with pytest.raises(UserError, match=r"colour.png is in colour"):
        load_unlabelled(folder, SHAPE)
    assert load_unlabelled(folder, (3, 28, 28)).shape[0] == 16
    Image.new("L", (20, 28)).save(colour)
    with pytest.raises(UserError, match=r"colour.png is 20 x 28"):
        load_unlabelled(folder, SHAPE)
    shutil.copy(tmp_path / "bad.npy", colour)
    with pytest.raises(UserError, match=r"colour.png is not a readable image"):
        load_unlabelled(folder, SHAPE)

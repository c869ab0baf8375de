"""Data sets of one's own: folders, .npz files, module:callable."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import describe, described_source, difference, from_arrays, load_dataset
from robustpolicy.data.datasets import get_source
from tests.pictures import NAMES, write_pictures

CLASSES = tuple(sorted(NAMES))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])


@pytest.fixture
def written(tmp_path, digits):
    return write_pictures(tmp_path / "pictures", digits)


def keys(images):
    return sorted(image.numpy().tobytes() for image in images)


class TestFolders:
    def test_every_image_is_there_once_with_its_class(self, written):
        data = load_dataset("pictures")
        assert data.source.classes == CLASSES
        assert data.source.shape == (1, 28, 28)
        assert (data.source.train, data.source.test) == (48, 12)  # a fifth of each class
        assert torch.bincount(data.test_labels).tolist() == [4, 4, 4]
        images = torch.cat([data.train_images, data.test_images])
        labels = torch.cat([data.train_labels, data.test_labels])
        for number, name in enumerate(CLASSES):
            expected = [image for path, image in written.items() if path.parent.name == name]
            assert keys(images[labels == number]) == keys(expected)

    def test_the_draw_is_the_same_everywhere_and_an_image_more_moves_few(
        self, written, tmp_path, digits
    ):
        first = load_dataset("pictures")
        shutil.copytree("pictures", "elsewhere")
        assert torch.equal(load_dataset("elsewhere").test_images, first.test_images)
        shutil.copy("pictures/one/0.png", "elsewhere/one/new.png")
        before, after = keys(first.test_images), keys(load_dataset("elsewhere").test_images)
        assert len(set(before) - set(after)) <= 1

    def test_statistics_are_those_of_train(self, written):
        data = load_dataset("pictures")
        pixels = data.train_images.double() / 255
        assert data.source.mean == pytest.approx((float(pixels.mean()),), abs=1e-6)
        assert data.source.std == pytest.approx((float(pixels.std(correction=0)),), abs=1e-6)

    def test_train_and_test_folders(self, tmp_path, digits):
        train = write_pictures(tmp_path / "split/train", digits, 9)
        test = write_pictures(tmp_path / "split/test", digits, 3)
        data = load_dataset("split")
        assert (len(data.train_images), len(data.test_images)) == (27, 9)
        assert keys(data.train_images) == keys(train.values())
        assert keys(data.test_images) == keys(test.values())
        assert data.train_labels.tolist() == [0] * 9 + [1] * 9 + [2] * 9

    def test_image_size(self, written):
        data = load_dataset("pictures", image_size=14)
        assert data.source.shape == (1, 14, 14)
        assert load_dataset("pictures").source.shape == (1, 28, 28)

    def test_the_cache_is_used_until_a_file_changes(self, written, tmp_path, monkeypatch):
        monkeypatch.setenv("ROBUSTPOLICY_CACHE", str(tmp_path / "cache"))
        first = load_dataset("pictures")
        victim = tmp_path / "pictures/one/3.png"
        stat = victim.stat()
        victim.write_bytes(b"x" * stat.st_size)
        os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert torch.equal(load_dataset("pictures").train_images, first.train_images)
        os.utime(victim)
        with pytest.raises(UserError, match=r"3.png is not a readable image"):
            load_dataset("pictures")
        shutil.copy(tmp_path / "pictures/one/4.png", victim)
        assert load_dataset("pictures").source.train == 48
        (cached,) = (tmp_path / "cache/decoded").iterdir()  # written over, not added to
        cached.write_bytes(cached.read_bytes()[:-1])
        assert load_dataset("pictures").source.train == 48

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda f: shutil.rmtree(f / "zero"), None),
            (lambda f: [shutil.rmtree(f / n) for n in ("zero", "two")], "fewer than 2 class"),
            (lambda f: (f / "empty").mkdir(), "empty holds no images"),
            (lambda f: [p.unlink() for p in list((f / "one").iterdir())[1:]], "holds one image"),
            (lambda f: (f / "train").mkdir(), "has a folder train, but no folder test"),
            (lambda f: (f / "one" / "x.gif").write_bytes(b""), "x.gif is in a format"),
            (lambda f: (f / "one" / "notes.txt").write_bytes(b""), None),
            (lambda f: (f / ".hidden").mkdir(), None),
        ],
    )
    def test_what_may_be_in_a_folder(self, written, tmp_path, change, message):
        change(tmp_path / "pictures")
        if message is None:
            load_dataset("pictures")
            return
        with pytest.raises(UserError, match=message):
            load_dataset("pictures")

    def test_train_and_test_need_the_same_classes(self, tmp_path, digits):
        for split in ("train", "test"):
            write_pictures(tmp_path / "split" / split, digits, 2)
        shutil.rmtree("split/test/one")
        with pytest.raises(UserError, match=r"split/test has no class folder one"):
            load_dataset("split")


def arrays(digits, count=60):
    return (
        digits.train_images[:count].numpy(),
        digits.train_labels[:count].numpy(),
        digits.test_images[:20].numpy(),
        digits.test_labels[:20].numpy(),
    )


class TestArrays:
    @pytest.mark.parametrize("kind", ["numpy", "tensors", "flat", "last", "float32", "float16"])
    def test_every_form_gives_the_same(self, digits, kind):
        a, b, c, d = arrays(digits)
        if kind == "tensors":
            a, b, c, d = map(torch.from_numpy, (a, b, c, d))
        elif kind == "flat":
            a, c = a[:, 0], c[:, 0]
        elif kind == "last":
            a, c = a.transpose(0, 2, 3, 1), c.transpose(0, 2, 3, 1)
        elif kind != "numpy":
            a, c = (a / 255).astype(kind), (c / 255).astype(kind)
        data = from_arrays("mine", a, b, c, d)
        assert torch.equal(data.train_images, digits.train_images[:60])
        assert torch.equal(data.test_labels, digits.test_labels[:20])
        assert data.source.classes == digits.source.classes

    def test_colour_last(self, digits):
        a, b, c, d = arrays(digits)
        a, c = (np.repeat(x.transpose(0, 2, 3, 1), 3, 3) for x in (a, c))
        a[..., 1] //= 2
        data = from_arrays("mine", a, b, c, d)
        assert data.source.shape == (3, 28, 28)
        assert torch.equal(data.train_images[:, 1], digits.train_images[:60, 0] // 2)
        assert data.source.mean[1] < data.source.mean[0] == data.source.mean[2]

    def test_floats_between_the_levels_are_rounded_with_a_word(self, digits):
        a, b, c, d = arrays(digits)
        with pytest.warns(UserWarning, match="rounded to the nearest level"):
            data = from_arrays("mine", np.clip(a / 255 + 0.0015, 0, 1), b, c, d)
        assert (data.train_images.int() - digits.train_images[:60]).abs().max() == 0

    def test_a_constant_channel_can_be_normalised(self, digits):
        a, b, c, d = arrays(digits)
        assert from_arrays("mine", 0 * a, b, c, d).source.std == (1.0,)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a, b, c, d: (a * 1.0, b, c, d), r"lie in \[0, 255\]"),
            (lambda a, b, c, d: (a / 255 * np.nan, b, c, d), r"lie in \[nan, nan\]"),
            (lambda a, b, c, d: (a / 127.5 - 1, b, c, d), r"lie in \[-1, 1\]"),
            (lambda a, b, c, d: (a.astype(int), b, c, d), "train_images are int64"),
            (lambda a, b, c, d: (a[:, 0, 0], b, c, d), "have shape"),
            (lambda a, b, c, d: (a[:, :, :, :1], b, c, d), "channels can be second or last"),
            (lambda a, b, c, d: (a, b, c[:, :, :9], d), "images of train have shape"),
            (lambda a, b, c, d: (a[:0], b[:0], c, d), "give at least one"),
            (lambda a, b, c, d: (a, b[:5], c, d), r"train_labels are int64 of shape \(5,\)"),
            (lambda a, b, c, d: (a, b * 1.0, c, d), "train_labels are float64"),
            (lambda a, b, c, d: (a, b - 1, c, d), "go down to -1"),
            (lambda a, b, c, d: (a, b + 1, c, d + 1), "no training image of class 0"),
            (lambda a, b, c, d: (a, 0 * b, c, 0 * d), "has 1 class"),
            (lambda a, b, c, d: (a, b, c, d, ["x", "y"]), "labels up to 9, but names of 2"),
            (lambda a, b, c, d: (a, b, c, d, ["x"] * 10), "two classes of the same name"),
            (lambda a, b, c, d: ([[1], [2, 3]], b, c, d), "are not an array"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, digits, change, message):
        with pytest.raises(UserError, match=message):
            from_arrays("mine", *change(*arrays(digits)))


class TestFiles:
    def test_npz(self, tmp_path, digits):
        a, b, c, d = arrays(digits)
        names = [f"digit {n}" for n in range(10)]
        np.savez(
            "mine.npz", train_images=a, train_labels=b, test_images=c, test_labels=d, classes=names
        )
        data = load_dataset("mine.npz")
        assert torch.equal(data.train_images, digits.train_images[:60])
        assert data.source.classes == tuple(names)
        assert get_source("mine.npz") == data.source

    @pytest.mark.parametrize("content", [b"", b"PK\3\4", b"text", "cut", "object", "npy"])
    def test_a_damaged_one_is_named(self, digits, content):
        a, b, c, d = arrays(digits)
        if content == "object":
            a = np.array([None])
        np.savez("mine.npz", train_images=a, train_labels=b, test_images=c, test_labels=d)
        file = Path("mine.npz")
        data = file.read_bytes()
        if content == "npy":
            np.save("mine.npy", a)
            Path("mine.npy").rename(file)
        elif content != "object":
            file.write_bytes(data[: len(data) // 2] if content == "cut" else content)
        with pytest.raises(UserError, match=r"mine.npz is not a readable .npz file"):
            load_dataset("mine.npz")

    def test_an_array_that_is_missing(self, digits):
        a, b, c, _ = arrays(digits)
        np.savez("mine.npz", train_images=a, train_labels=b, x_test=c)
        with pytest.raises(UserError, match=r"x_test, but not test_images"):
            load_dataset("mine.npz")


CODE = """
import torch
from robustpolicy.data import Dataset, load_dataset
digits = load_dataset("digits")
four = (digits.train_images[:99], digits.train_labels[:99],
        digits.test_images[:40], digits.test_labels[:40])
def plain(): return four
def named(): return [*four, list("abcdefghij")]
def dataset(): return Dataset(digits.source, *four)
def three(): return four[:3]
def number(): return 3
def broken():
    raise KeyError("nothing here")
def needs(place): return four
"""


class TestCallables:
    @pytest.fixture(autouse=True)
    def _module(self, tmp_path):
        (tmp_path / "owndata.py").write_text(CODE)
        yield
        sys.modules.pop("owndata", None)

    @pytest.mark.parametrize("name", ["plain", "named", "dataset"])
    def test_what_it_may_return(self, digits, name):
        data = load_dataset(f"owndata:{name}")
        assert torch.equal(data.train_images, digits.train_images[:99])
        assert data.source.name == f"owndata:{name}"
        assert (data.source.train, data.source.test) == (99, 40)  # counted, not believed
        assert data.source.classes == tuple("abcdefghij" if name == "named" else "0123456789")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("three", "returned 3 values; it must return"),
            ("number", "returned int"),
            ("broken", r"failed: KeyError: 'nothing here' \(owndata.py, line 13\)"),
            ("needs", "failed: TypeError"),
            ("nothing", "failed: AttributeError"),
        ],
    )
    def test_what_it_may_not(self, name, message):
        with pytest.raises(UserError, match=message):
            load_dataset(f"owndata:{name}")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("imagenet", 0, "unknown data set 'imagenet'; choose one of digits, mnist, cifar10, or"),
        ("./imagenet", 0, "no data set ./imagenet: neither a folder nor a file"),
        ("mine.npz", 0, "no data set mine.npz"),
        ("digits", 32, "digits has a size of its own"),
        ("torch:rand", 32, "torch:rand is no folder of images"),
    ],
)
def test_names_that_stand_for_nothing(name, size, message, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=message):
        load_dataset(name, image_size=size)


def test_descriptions_tell_data_apart(digits):
    a, b, c, d = arrays(digits)
    first = describe(from_arrays("mine", a, b, c, d))
    assert difference(first, describe(from_arrays("mine", a, b, c, d))) is None
    assert described_source(first) == from_arrays("mine", a, b, c, d).source
    letters = list("abcdefghij")
    flipped = a.copy()
    flipped[7, 0, 14, 14] ^= 1
    changes = {
        "other images or labels": from_arrays("mine", flipped, b, c, d),
        "train 60 then, 59 now": from_arrays("mine", a[:59], b[:59], c, d),
        "classes 0 1 2 3 4 5 6 7 8 9 then, a b": from_arrays("mine", a, b, c, d, letters),
        "shape 1 28 28 then, 1 9 28 now": from_arrays("mine", a[:, :, :9], b, c[:, :, :9], d),
    }
    for words, data in changes.items():
        assert difference(first, describe(data)).startswith(words)

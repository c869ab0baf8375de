"""Finding and verifying files as people keep them; real files where they are at hand."""

import gzip
import hashlib
import lzma
import os
import shutil
import tarfile

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import decode, find, load_dataset, search_path
from robustpolicy.data.files import read
from robustpolicy.data.sources import SOURCES, Source, Version

CONTENT = {"a-idx3-ubyte": b"images " * 50, "b-idx1-ubyte": b"labels " * 50}
VERSION = Version(
    format="idx",
    members={name: hashlib.sha256(data).hexdigest() for name, data in CONTENT.items()},
    folders=("sub", "sub/deeper"),
    archives=("all.tar.gz",),
)
SOURCE = Source("toy", "toy", ("0", "1"), (1, 2, 2), 2, 2, (0.5,), (0.5,), (VERSION,))


def pack(folder, packing):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in CONTENT.items():
        if packing == "plain":
            (folder / name).write_bytes(data)
        elif packing == "gz":
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        elif packing == "xz":
            (folder / f"{name}.xz").write_bytes(lzma.compress(data))
        elif packing == "dotted":
            (folder / name.replace("-idx", ".idx")).write_bytes(data)
    if packing == "tar":
        inner = folder / "inner"
        pack(inner, "plain")
        with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
            archive.add(inner, arcname="published-folder")
        shutil.rmtree(inner)


@pytest.mark.parametrize("packing", ["plain", "gz", "xz", "dotted", "tar"])
@pytest.mark.parametrize("place", ["", "sub", "sub/deeper"])
def test_found_and_read_however_packed(tmp_path, packing, place):
    pack(tmp_path / place, packing)
    assert read(find(SOURCE, [tmp_path])) == CONTENT


def test_members_may_lie_in_different_folders(tmp_path):
    for number, (name, data) in enumerate(CONTENT.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
    assert find(SOURCE, [tmp_path / "0"]) is None
    assert read(find(SOURCE, [tmp_path / "0", tmp_path / "1"])) == CONTENT


@pytest.mark.parametrize("packing", ["plain", "gz", "xz", "tar"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_file_is_named_with_its_sum(tmp_path, packing, damage):
    pack(tmp_path, packing)
    victim = sorted(tmp_path.iterdir())[0]
    data = bytearray(victim.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(UserError, match="SHA-256") as caught:
        read(find(SOURCE, [tmp_path]))
    assert str(victim) in str(caught.value)


def test_an_archive_without_a_member(tmp_path):
    (tmp_path / "x").write_bytes(b"")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x")
    with pytest.raises(UserError, match="lacks a-idx3-ubyte"):
        read(find(SOURCE, [tmp_path]))


def test_search_path(tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    monkeypatch.setenv("ROBUSTPOLICY_DATA", f"{two}{os.pathsep}{one}")
    assert search_path([one])[:3] == [one, two, one]
    with pytest.raises(UserError, match="two is not a folder"):
        search_path([two])


def test_no_network_says_where_to_put_the_files(tmp_path, monkeypatch):
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("ROBUSTPOLICY_CACHE", str(tmp_path))
    monkeypatch.delenv("ROBUSTPOLICY_DATA", raising=False)
    with pytest.raises(UserError, match="Without a network, put") as caught:
        load_dataset("mnist")
    assert "train-labels-idx1-ubyte.gz" in str(caught.value)
    assert "--data-dir" in str(caught.value)


@pytest.mark.mnist
class TestMnist:
    def test_content(self, mnist):
        assert mnist.train_images.shape == (60_000, 1, 28, 28)
        assert torch.bincount(mnist.test_labels).tolist() == [
            980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
        ]  # fmt: skip
        mean = mnist.train_images.double().mean() / 255
        assert abs(mean - mnist.source.mean[0]) < 1e-4

    def test_plain_files_and_an_altered_one(self, mnist, tmp_path):
        found = find(SOURCES["mnist"], search_path())
        for name, data in read(found).items():
            (tmp_path / name).write_bytes(data)
        again = load_dataset("mnist", [tmp_path])
        assert torch.equal(again.train_images, mnist.train_images)
        victim = tmp_path / "t10k-labels-idx1-ubyte"
        data = bytearray(victim.read_bytes())
        data[100] ^= 1
        victim.write_bytes(data)  # the cache must not hide this
        with pytest.raises(UserError, match=r"t10k-labels.*SHA-256"):
            load_dataset("mnist", [tmp_path])

    def test_a_damaged_cache_is_made_again(self, mnist, tmp_path, monkeypatch):
        monkeypatch.setenv("ROBUSTPOLICY_CACHE", str(tmp_path))
        load_dataset("mnist")
        (cached,) = (tmp_path / "decoded").iterdir()
        data = bytearray(cached.read_bytes())
        data[len(data) // 2] ^= 1
        cached.write_bytes(data)
        assert torch.equal(load_dataset("mnist").train_images, mnist.train_images)
        cached.write_bytes(data[:1000])
        assert torch.equal(load_dataset("mnist").train_images, mnist.train_images)


@pytest.mark.cifar10
@pytest.mark.xdist_group("cifar10")
class TestCifar10:
    def test_content(self, cifar10):
        assert torch.bincount(cifar10.train_labels).tolist() == [5000] * 10
        assert torch.bincount(cifar10.test_labels).tolist() == [1000] * 10
        images = cifar10.train_images.double() / 255
        torch.testing.assert_close(
            images.mean((0, 2, 3)), torch.tensor(cifar10.source.mean).double(), atol=1e-4, rtol=0
        )

    def test_published_binary_and_archive_give_the_same(self, cifar10, tmp_path):
        python, binary = SOURCES["cifar10"].versions
        found = find(SOURCES["cifar10"], search_path())
        contents = read(found)
        folder = tmp_path / "binary" / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        import numpy as np

        from robustpolicy.data.formats import decode_cifar_python

        for name, data in contents.items():
            images, labels = decode_cifar_python(data, name)
            rows = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(-1, 3072)], 1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        found = find(SOURCES["cifar10"], [tmp_path / "binary"])
        assert found.version is binary
        assert np.array_equal(decode(found)["train_images"], cifar10.train_images.numpy())
        archive_folder = tmp_path / "archive"
        archive_folder.mkdir()
        with tarfile.open(archive_folder / "cifar-10-python.tar.gz", "w:gz", compresslevel=1) as to:
            for name, data in contents.items():
                (tmp_path / name).write_bytes(data)
                to.add(tmp_path / name, arcname=f"cifar-10-batches-py/{name}")
        found = find(SOURCES["cifar10"], [archive_folder])
        assert found.version is python
        assert found.archive is not None
        assert np.array_equal(decode(found)["test_images"], cifar10.test_images.numpy())

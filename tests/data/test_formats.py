"""Decoders, on files made here and on malicious ones."""

import pickle
import struct

import numpy as np
import pytest

from robustpolicy import UserError
from robustpolicy.data.formats import decode_cifar_binary, decode_cifar_python, decode_idx

RANDOM = np.random.default_rng(0)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def test_idx_round_trip():
    images = RANDOM.integers(0, 256, (5, 4, 3), np.uint8)
    assert np.array_equal(decode_idx(idx(images), "f"), images)
    labels = RANDOM.integers(0, 10, 7, np.uint8)
    assert np.array_equal(decode_idx(idx(labels), "f"), labels)


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\x0d\x03" + bytes(12), b"\x1f\x8b12345", b"\0\0\x08\x03\0\0"]
)
def test_not_idx(data):
    with pytest.raises(UserError, match="train-images"):
        decode_idx(data, "train-images")


def test_idx_cut_short():
    data = idx(np.zeros((5, 4, 3), np.uint8))[:-1]
    with pytest.raises(UserError, match="75 bytes, its header announces 76"):
        decode_idx(data, "f")


def test_cifar_versions_agree():
    pixels = RANDOM.integers(0, 256, (6, 3072), np.uint8)
    labels = RANDOM.integers(0, 10, 6)
    rows = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1)
    from_binary = decode_cifar_binary(rows.tobytes(), "f")
    batch = {"data": pixels, "labels": labels.tolist(), "filenames": ["a.png"] * 6}
    from_python = decode_cifar_python(pickle.dumps(batch, protocol=4), "f")
    for one, other in zip(from_binary, from_python, strict=True):
        assert np.array_equal(one, other)
    assert from_binary[0].shape == (6, 3, 32, 32)


class Malicious:
    """A pickle that would write a file if it were run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_malicious_pickle_is_named_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    with pytest.raises(UserError, match=r"io\.open.*malicious"):
        decode_cifar_python(pickle.dumps({"data": Malicious(trap)}), "data_batch_1")
    assert not trap.exists()


@pytest.mark.parametrize(
    "data", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({"data": 1, "labels": [1]})]
)
def test_not_a_batch(data):
    with pytest.raises(UserError, match="data_batch_1 is not a CIFAR-10 batch"):
        decode_cifar_python(data, "data_batch_1")


def test_binary_cut_short():
    with pytest.raises(UserError, match="not a multiple of 3,073"):
        decode_cifar_binary(bytes(3072), "data_batch_1.bin")

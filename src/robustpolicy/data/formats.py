"""Decoders of the published file formats: bytes in, uint8 images and int64 labels out."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustpolicy.errors import UserError

Images = NDArray[np.uint8]  # (N, C, H, W)
Labels = NDArray[np.int64]  # (N,)


def decode_idx(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an idx file of unsigned bytes (MNIST): images (N, H, W) or labels (N,).

    Raises:
        UserError: a header that is not idx, or fewer or more bytes than it announces.
    """
    rank = data[3] if len(data) >= 4 else 0
    header = 4 + 4 * rank
    if data[:3] != b"\0\0\x08" or rank not in (1, 3) or len(data) < header:
        raise UserError(f"{name} is not an idx file of unsigned bytes; fetch it again")
    shape = tuple(int(n) for n in np.frombuffer(data[4:header], dtype=">u4"))
    size = math.prod(shape)
    if len(data) != header + size:
        raise UserError(
            f"{name} holds {len(data)} bytes, its header announces {header + size}; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def decode_cifar_binary(data: bytes, name: str) -> tuple[Images, Labels]:
    """Decode a batch of the binary version: a label byte and 3,072 pixel bytes an image.

    Raises:
        UserError: a length that is not a multiple of 3,073.
    """
    if not data or len(data) % 3073:
        raise UserError(f"{name} holds {len(data)} bytes, not a multiple of 3,073; fetch it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def decode_cifar_python(data: bytes, name: str) -> tuple[Images, Labels]:
    """Decode a batch of the python version through an unpickler that builds arrays only.

    Raises:
        UserError: a pickle that asks for anything else (it is not run), or is not such a batch.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
        pixels = np.asarray(batch["data"])
        labels = np.asarray(batch["labels"])
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
            raise ValueError(f"data is {pixels.dtype} of shape {pixels.shape}")
        return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a broken pickle can raise anything
        raise UserError(f"{name} is not a CIFAR-10 batch ({error}); fetch it again") from None


class _ArraysOnly(pickle.Unpickler):
    """An unpickler for which numpy arrays are the only objects there are."""

    ALLOWED = frozenset(
        (module, name)
        for core in ("numpy.core.multiarray", "numpy._core.multiarray")
        for module, name in ((core, "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise UserError(
                f"the pickle asks for {module}.{name}, which no CIFAR-10 batch does; it may be "
                "malicious and was not run. Delete it and fetch the data again"
            )
        if name == "_reconstruct":
            from numpy._core import multiarray

            return multiarray._reconstruct
        return getattr(np, name)

"""Images without labels, to train on beside a labelled data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustpolicy.data.arrays import images_of
from robustpolicy.data.cache import cached
from robustpolicy.data.images import decode_images, image_files
from robustpolicy.data.own import DECODING
from robustpolicy.errors import UserError


def load_unlabelled(path: str | Path, shape: tuple[int, int, int], image_size: int = 0) -> Tensor:
    """Images without labels that have the shape of the labelled ones.

    Args:
        path: a folder with images at any depth; a .npy file; or a .npz file with one array, or
            with one called images. Arrays are uint8 or floats in [0, 1], of shape (N, C, H, W),
            (N, H, W), or (N, H, W, C) with 1 or 3 channels.
        shape: (C, H, W) of the labelled images. Grey images become RGB where C is 3.
        image_size: of a folder: 0 takes images as they are; N scales and cuts them as it does the
            labelled ones.

    Returns:
        uint8, shape (N, C, H, W).

    Raises:
        UserError: nothing there, a damaged file, or images that do not fit.
    """
    path = Path(path)
    if path.is_dir():
        images = _from_folder(path, shape, image_size)
    elif path.is_file():
        images = images_of(_read(path), str(path))
    else:
        raise UserError(f"there is no folder or file {path} of unlabelled images")
    if len(shape) == 3 and shape[0] == 3 and images.shape[1] == 1:
        images = np.repeat(images, 3, axis=1)
    if images.shape[1:] != tuple(shape):
        raise UserError(
            f"{path} has images of shape {images.shape[1:]} (channels, height, width), the "
            f"labelled ones have {tuple(shape)}; give the same"
        )
    return torch.from_numpy(images)


def _from_folder(path: Path, shape: tuple[int, int, int], image_size: int) -> NDArray[np.uint8]:
    files = image_files(path)
    if not files:
        raise UserError(f"{path} holds no images (png, jpg, bmp, webp, pgm, ppm); add some")
    place = (DECODING, str(path.resolve()), image_size, shape[0])
    return cached(
        "unlabelled",
        files,
        lambda: {"images": decode_images(files, image_size, shape[0])},
        place,
    )["images"]


def _read(path: Path) -> NDArray[Any]:
    """The one array of a .npy or .npz file."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            return file
        with file:
            names = file.files
            chosen = "images" if "images" in names else names[0] if len(names) == 1 else None
            if chosen is not None:
                return file[chosen]
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{path} is not a readable .npy or .npz file ({reason}); write it with numpy.save"
        ) from None
    raise UserError(
        f"{path} holds the arrays {', '.join(names)}; name the one with the images images"
    )

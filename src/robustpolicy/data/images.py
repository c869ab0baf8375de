"""Image files: finding them below a folder and decoding them with Pillow, all of one size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustpolicy.errors import UserError

#: Pillow's names of the formats that are read, and the endings of their files.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm"))
#: Images too, but in formats that are not read: refused, since skipping them would lose data.
OTHER_ENDINGS = frozenset((".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2"))
#: Files decoded before their sizes are looked at, and above which a progress bar is drawn.
CHUNK, MANY = 1000, 5000


def class_folders(folder: Path) -> list[Path]:
    """Sub-folders of a folder by name; hidden ones are skipped.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]


def image_files(folder: Path) -> list[Path]:
    """Image files at any depth below a folder, by path; hidden and other files are skipped.

    Raises:
        UserError: a folder that cannot be read, or an image in another format.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}")

    found = []
    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in OTHER_ENDINGS:
                raise UserError(
                    f"{path} is in a format that is not read here; convert it to PNG, or move it "
                    "elsewhere"
                )
            if path.suffix.lower() in ENDINGS:
                found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def decode_images(
    files: Sequence[Path], image_size: int = 0, channels: int | None = None
) -> NDArray[np.uint8]:
    """Decode images, uint8, shape (N, C, H, W): grey if all are, else RGB.

    Args:
        files: what to decode, at least one.
        image_size: 0 takes images as they are; N scales the shorter side to N (bicubic,
            antialiased) and takes the centre, N x N.
        channels: 3 makes RGB of grey images too; 1 refuses RGB.

    Raises:
        UserError: a negative size, images of different sizes, a damaged file, or one that is not
            8-bit grey or RGB.
    """
    if image_size < 0:
        raise UserError(f"image_size is {image_size}; give a side in pixels, or 0")
    images: list[NDArray[np.uint8]] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        chunks = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
        for chunk in _watched(chunks, len(files)):
            images += pool.map(partial(_decode, image_size=image_size), chunk)
            _check_sizes(files, images)
    colours = [image.ndim == 3 for image in images]
    if channels == 1 and any(colours):
        raise UserError(f"{files[colours.index(True)]} is in colour, but grey images are needed")
    if not any(colours) and channels != 3:
        return np.stack(images)[:, None]
    out = np.empty((len(images), 3, *images[0].shape[:2]), np.uint8)
    for place, image in zip(out, images, strict=True):
        place[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image
    return out


def _decode(path: Path, image_size: int) -> NDArray[np.uint8]:
    """One image, shape (H, W) if grey, (H, W, 3) if RGB."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UserError(
            "reading images needs Pillow; install it with: pip install pillow"
        ) from None

    try:
        with Image.open(path, formats=FORMATS) as file:
            image = ImageOps.exif_transpose(file)  # as viewers show it
            image.load()
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{path} is not a readable image ({reason}); mend it, or move it elsewhere"
        ) from None
    return np.asarray(_resized(_grey_or_rgb(image, path), image_size))


def _grey_or_rgb(image: Any, path: Path) -> Any:
    """The image in mode L or RGB."""
    see_through = image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info
    if see_through and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise UserError(
            f"{path} is transparent in parts, so it has no colour there; put it on a background"
        )
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode in ("P", "PA", "RGB", "RGBA"):
        return image.convert("RGB")
    raise UserError(
        f"{path} has pixels of Pillow's mode {image.mode}; convert it to 8-bit grey or RGB"
    )


def _resized(image: Any, size: int) -> Any:
    if size == 0:
        return image
    from PIL import Image

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)  # scaling only what stays gives the same
    return image.resize((size, size), Image.Resampling.BICUBIC, box)


def _check_sizes(files: Sequence[Path], images: Sequence[NDArray[np.uint8]]) -> None:
    sizes = [image.shape[:2] for image in images]
    other = next((number for number, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None:
        (a, b), (c, d) = sizes[0], sizes[other]
        raise UserError(
            f"{files[0]} is {b} x {a}, but {files[other]} is {d} x {c} (width x height); give "
            f"images of one size, or --image-size {min(a, b, c, d)} to have them scaled and cut to "
            "squares"
        )


def _watched(chunks: list[Sequence[Path]], total: int) -> Iterable[Sequence[Path]]:
    """The chunks, under a progress bar if they are many."""
    if total <= MANY:
        return chunks
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:  # where only the training core is installed
        return chunks
    return track(chunks, "decoding images", console=Console(stderr=True), transient=True)

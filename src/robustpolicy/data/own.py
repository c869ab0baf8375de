"""Data sets of one's own: a folder of class folders of images, a .npz file, module:callable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustpolicy.data.arrays import Arrays, Dataset, from_arrays
from robustpolicy.data.cache import cached
from robustpolicy.data.images import class_folders, decode_images, image_files
from robustpolicy.data.sources import SOURCES
from robustpolicy.errors import UserError
from robustpolicy.importing import call, is_reference, load
from robustpolicy.randomness import derive_seed

#: Share of each class that is test, where a folder does not say.
TEST_SHARE = 0.2
KEYS = ("train_images", "train_labels", "test_images", "test_labels")
#: Part of the cache's keys; to be raised whenever the same files are decoded in another way.
DECODING = 1


def check_name(name: str) -> None:
    """Check that a name can stand for a data set, without loading it.

    Raises:
        UserError: nothing of that name.
    """
    if name in SOURCES or Path(name).is_dir() or Path(name).is_file() or is_reference(name):
        return
    if Path(name).suffix == ".npz" or Path(name).name != name:
        raise UserError(f"there is no data set {name}: neither a folder nor a file of that name")
    raise UserError(
        f"unknown data set {name!r}; choose one of {', '.join(SOURCES)}, or give a folder of class "
        "folders of images, a .npz file or module:callable"
    )


def load_own(name: str, image_size: int = 0) -> Dataset:
    """Load a data set of one's own.

    Args:
        name: a folder, a .npz file, or ``module:callable``, whose code is run.
        image_size: of a folder: side to which images are scaled and cut; 0 takes them as they are.

    Raises:
        UserError: nothing of that name, or something that is no data set.
    """
    check_name(name)
    path = Path(name)
    if path.is_dir():
        return _from_folder(name, path, image_size)
    if image_size:
        raise UserError(
            f"image_size is {image_size}, but {name} is no folder of images; leave it 0"
        )
    return _from_npz(name, path) if path.is_file() else _from_call(name)


@dataclass(frozen=True)
class _Listing:
    """Image files of a data set, in order: all of train, then all of test; labels likewise."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    train: int


def _from_folder(name: str, folder: Path, image_size: int) -> Dataset:
    listing = _list_folder(folder)
    cut = listing.train

    def decode() -> Arrays:
        images = decode_images(listing.files, image_size)
        labels = np.array(listing.labels, np.int64)
        return dict(
            zip(KEYS, (images[:cut], labels[:cut], images[cut:], labels[cut:]), strict=True)
        )

    place = (DECODING, str(folder.resolve()), image_size)
    arrays = cached("folder", listing.files, decode, place)
    return from_arrays(name, **arrays, classes=listing.classes)


def _list_folder(folder: Path) -> _Listing:
    """Find the images of FOLDER/train/CLASS and FOLDER/test/CLASS, or of FOLDER/CLASS alone."""
    inside = {path.name: path for path in class_folders(folder)}
    if "train" in inside and "test" in inside:
        train = _list_classes(inside["train"])
        test = _list_classes(inside["test"])
        for one, other, where in ((train, test, "test"), (test, train, "train")):
            if missing := sorted(set(one) - set(other)):
                raise UserError(
                    f"{folder / where} has no class folder {missing[0]}; give train and test the "
                    "same classes"
                )
    elif "train" in inside or "test" in inside:
        there, missing_one = ("train", "test") if "train" in inside else ("test", "train")
        raise UserError(
            f"{folder} has a folder {there}, but no folder {missing_one}; give both, or class "
            "folders alone"
        )
    else:
        train, test = {}, {}
        for label, files in _list_classes(folder).items():
            test[label], train[label] = _draw(folder / label, files)
    classes = tuple(sorted(train))
    if len(classes) < 2:
        raise UserError(
            f"{folder} has fewer than 2 class folders; give {folder}/CLASS/*.png, or "
            f"{folder}/train/CLASS/*.png and {folder}/test/CLASS/*.png"
        )
    pairs = [
        (path, number)
        for split in (train, test)
        for number, label in enumerate(classes)
        for path in split[label]
    ]
    return _Listing(
        classes,
        tuple(path for path, _ in pairs),
        tuple(number for _, number in pairs),
        sum(map(len, train.values())),
    )


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    """Class folder -> its images."""
    found = {path.name: image_files(path) for path in class_folders(folder)}
    for label, files in found.items():
        if not files:
            raise UserError(
                f"{folder / label} holds no images (png, jpg, bmp, webp, pgm, ppm); add some, or "
                "remove the folder"
            )
    return found


def _draw(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Test and train images of one class: the same draw on every machine.

    Drawn by the files' names, so that an image more or less hardly changes the other ones' sides.
    """
    if len(files) < 2:
        raise UserError(f"{folder} holds one image; give at least 2, since one is for test")
    names = {path: path.relative_to(folder).as_posix() for path in files}
    order = sorted(files, key=lambda path: derive_seed("test split", folder.name, names[path]))
    chosen = set(order[: max(1, round(TEST_SHARE * len(files)))])
    return [path for path in files if path in chosen], [p for p in files if p not in chosen]


def _from_npz(name: str, path: Path) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {key: file[key] for key in file.files}
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{path} is not a readable .npz file ({reason}); write it with numpy.savez"
        ) from None
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise UserError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, but not {missing[0]}; give "
            f"{', '.join(KEYS)}, and classes if they have names"
        )
    classes = arrays.get("classes")
    return from_arrays(name, **{key: arrays[key] for key in KEYS}, classes=classes)


_RETURNS = (
    "a robustpolicy.data.Dataset or (train_images, train_labels, test_images, test_labels), with "
    "names of the classes as a fifth if you like"
)


def _from_call(name: str) -> Dataset:
    made = call(name, load(name, _RETURNS), _RETURNS)
    if isinstance(made, Dataset):
        arrays = {key: getattr(made, key) for key in KEYS}
        dataset = from_arrays(name, **arrays, classes=made.source.classes)
        return dataclasses.replace(
            dataset, source=dataclasses.replace(dataset.source, title=made.source.title)
        )
    if not isinstance(made, (tuple, list)) or len(made) not in (4, 5):
        what = f"{len(made)} values" if isinstance(made, (tuple, list)) else type(made).__name__
        raise UserError(f"{name} returned {what}; it must return {_RETURNS}")
    given = dict(zip((*KEYS, "classes"), made, strict=False))
    return from_arrays(name, **given)

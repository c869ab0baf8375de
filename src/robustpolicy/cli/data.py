"""``robustpolicy data``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from robustpolicy.cli.parse import parse
from robustpolicy.errors import UserError


@dataclass(frozen=True)
class Options:
    """List the data sets and where they were found, fetch one, or check its files."""

    action: Annotated[Literal["list", "fetch", "check"], tyro.conf.Positional]
    """list: what there is, and where. fetch NAME: download into the user cache, unless found.
    check NAME: read every file and compare its SHA-256; of your own, say what is in it."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """Data set: digits, mnist or cifar10; check also takes your own: a folder of class folders of
    images, a .npz file, or MODULE:CALLABLE (its code is run)."""
    image_size: int = 0
    """Scale the images of a folder to squares of this side; 0 takes them as they are."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look in first; then $ROBUSTPOLICY_DATA and the user cache."""


def run(arguments: Sequence[str]) -> None:
    """Carry out the action."""
    options = parse(Options, arguments, "data")
    if options.action == "list":
        if options.name is not None:
            raise UserError("data list takes no name")
        _list(options.data_dir)
        return
    from robustpolicy.data import (
        SOURCES,
        check_name,
        decode,
        fetch,
        find,
        get_source,
        is_own,
        search_path,
    )

    if options.name is None:
        raise UserError(f"data {options.action} needs a name; choose one of {', '.join(SOURCES)}")
    if is_own(options.name):
        check_name(options.name)
        if options.action == "fetch":
            raise UserError(f"{options.name} is a data set of your own; there is nothing to fetch")
        _check_own(options.name, options.image_size)
        return
    source = get_source(options.name)
    if not source.versions:
        print(f"{source.name}: comes with the package; nothing to {options.action}")
        return
    found = find(source, search_path(options.data_dir))
    if options.action == "fetch":
        found = found or fetch(source)
    elif found is None:
        raise UserError(
            f"{source.name} was not found; `robustpolicy data fetch {source.name}` downloads it, "
            "--data-dir names a folder that holds it"
        )
    decode(found)  # reads and verifies every member
    files = ", ".join(str(path) for path in found.paths)
    print(f"{source.name}: {files}: every SHA-256 as published")


def _check_own(name: str, image_size: int) -> None:
    from robustpolicy.data import load_dataset

    dataset = load_dataset(name, image_size=image_size)
    source = dataset.source
    shape = "x".join(map(str, source.shape))
    print(f"{name}: {source.train} train and {source.test} test images, {shape}")
    for number, label in enumerate(source.classes):
        counts = [int((y == number).sum()) for y in (dataset.train_labels, dataset.test_labels)]
        print(f"  {label}: {counts[0]} + {counts[1]}")


def _list(data_dirs: Sequence[Path]) -> None:
    from robustpolicy.data import SOURCES, find, search_path
    from robustpolicy.report.tables import Table

    folders = search_path(data_dirs)
    rows = []
    for source in SOURCES.values():
        found = find(source, folders)
        place = str(found.paths[0].parent) if found else "not found"
        if not source.versions:
            place = "in the package"
        shape = "x".join(map(str, source.shape))
        rows.append((source.name, f"{source.train} + {source.test}", shape, place, source.title))
    columns = ("name", "train + test", "shape", "where", "what")
    Table("Data sets", columns, tuple(rows)).print()

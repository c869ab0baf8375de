"""Finding, reading and verifying data files, however people keep them on disk."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustpolicy.data.sources import Source, Version
from robustpolicy.errors import UserError

_OPEN = {"": open, ".gz": gzip.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Found:
    """The files of one version of a data set: member name -> file; or one archive of them all."""

    version: Version
    files: dict[str, Path]
    archive: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """Every file on disk that this stands for."""
        return [self.archive] if self.archive else list(self.files.values())


def cache_dir() -> Path:
    """The user cache: ``$ROBUSTPOLICY_CACHE``, else robustpolicy/ in ``$XDG_CACHE_HOME``."""
    if given := os.environ.get("ROBUSTPOLICY_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustpolicy"


def search_path(data_dirs: Sequence[str | Path] = ()) -> list[Path]:
    """Folders to look in: the given ones, those of ``$ROBUSTPOLICY_DATA``, the user cache.

    Raises:
        UserError: a given folder that does not exist.
    """
    if isinstance(data_dirs, (str, Path)):
        data_dirs = [data_dirs]
    given = [Path(folder).expanduser() for folder in data_dirs]
    for folder in given:
        if not folder.is_dir():
            raise UserError(f"--data-dir {folder} is not a folder; give folders that exist")
    variable = os.environ.get("ROBUSTPOLICY_DATA", "")
    return [
        *given,
        *(Path(part).expanduser() for part in variable.split(os.pathsep) if part),
        cache_dir() / "downloads",
    ]


def find(source: Source, folders: Iterable[Path]) -> Found | None:
    """Look for one complete version of a data set; its members may lie in different folders."""
    folders = list(folders)
    for version in source.versions:
        places = [folder / sub for folder in folders for sub in ("", *version.folders)]
        for place in places:
            for archive in version.archives:
                if (place / archive).is_file():
                    return Found(version, {}, place / archive)
        files = {name: path for name in version.members if (path := _locate(name, places))}
        if len(files) == len(version.members):
            return Found(version, files)
    return None


def _locate(name: str, places: Iterable[Path]) -> Path | None:
    names = (name, name.replace("-idx", ".idx"))  # both spellings of MNIST's files are about
    for place in places:
        for spelling in dict.fromkeys(names):
            for suffix in _OPEN:
                path = place / (spelling + suffix)
                if path.is_file():
                    return path
    return None


def read(found: Found) -> dict[str, bytes]:
    """Read and verify every member.

    Raises:
        UserError: a file that is cut short, damaged or altered; names it and both sums.
    """
    if found.archive:
        contents = _read_archive(found.archive, found.version)
    else:
        sums = found.version.members
        contents = {name: _read_file(path, sums[name]) for name, path in found.files.items()}
    for name, content in contents.items():
        actual, expected = hashlib.sha256(content).hexdigest(), found.version.members[name]
        if actual != expected:
            raise UserError(
                f"{found.archive or found.files[name]} is cut short or altered: the SHA-256 of "
                f"{name} is {actual}, expected {expected}; {_MEND}"
            )
    return contents


_MEND = "delete it and run `robustpolicy data fetch`, or give another --data-dir"
_DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError)


def _read_file(path: Path, expected: str) -> bytes:
    opener = _OPEN.get(path.suffix, open)
    try:
        with opener(path, "rb") as file:  # type: ignore[operator]
            return file.read()
    except _DAMAGE as error:
        raise UserError(
            f"{path} is cut short or damaged ({error}): not the SHA-256 {expected}; {_MEND}"
        ) from None


def _read_archive(path: Path, version: Version) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for entry in archive:  # one pass: seeking back would decompress again
                name = Path(entry.name).name
                if name in version.members and (member := archive.extractfile(entry)):
                    contents[name] = member.read()
    except _DAMAGE as error:
        sums = ", ".join(f"{name} {sha256}" for name, sha256 in version.members.items())
        raise UserError(
            f"{path} is cut short or damaged ({error}): not the SHA-256 of {sums}; {_MEND}"
        ) from None
    missing = [name for name in version.members if name not in contents]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; {_MEND}")
    return contents

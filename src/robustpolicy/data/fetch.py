"""Downloads with pooch: the official place first, then a mirror, always verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustpolicy.data.files import Found, cache_dir, find
from robustpolicy.data.sources import Download, Source
from robustpolicy.errors import UserError


def fetch(source: Source) -> Found:
    """Download a data set into the user cache, unless it is there.

    Raises:
        UserError: no address answered, or what came was not the published file. Says which files
            to put where.
    """
    folder = cache_dir() / "downloads" / source.name
    for version in source.versions:
        for download in version.downloads:
            _fetch_one(download, folder, source)
    found = find(source, [folder])
    assert found is not None, "pooch has put every file in place"
    return found


def _fetch_one(download: Download, folder: Path, source: Source) -> None:
    import pooch

    pooch.get_logger().setLevel("ERROR")  # it would log every address it tries
    reasons = []
    for url in download.urls:
        downloader = pooch.HTTPDownloader(progressbar=_Bar(download.name), timeout=30)
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.name,
                path=folder,
                downloader=downloader,
            )
            return
        except (OSError, ValueError) as error:  # no connection, or another SHA-256
            reasons.append(f"{url.split('/')[2]}: {_short(error)}")
    names = ", ".join(d.name for version in source.versions for d in version.downloads)
    raise UserError(
        f"could not download {download.name} ({'; '.join(reasons)}). Without a network, put "
        f"{names} into {folder}, or name the folder that holds them with --data-dir or "
        "$ROBUSTPOLICY_DATA"
    )


def _short(error: Exception) -> str:
    """The root of an error, in a few words: the chain of a failed connection is long."""
    text = str(error).replace("\n", " ").split(": ")[-1]
    text = text.split(" ([Errno")[0].strip(' )"')
    return text if len(text) <= 100 else text[:97] + "..."


class _Bar:
    """A rich progress bar with the few methods that pooch calls."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None
        self._name = name
        self.total = 0

    def update(self, size: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._name, total=self.total or None)
            self._progress.start()
        self._progress.update(self._task, advance=size)

    def reset(self) -> None:
        """Pooch resets the bar, then fills it again, to show the end."""
        if self._task is not None:
            self._progress.reset(self._task, total=self.total or None)

    def close(self) -> None:
        self._progress.stop()

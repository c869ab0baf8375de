"""Downloads from a real server on loopback: progress, mirror, checksum."""

import functools
import gzip
import hashlib
import http.server
import threading

import pytest

from robustpolicy import UserError
from robustpolicy.data.fetch import _Bar, fetch
from robustpolicy.data.files import read
from robustpolicy.data.sources import Download, Source, Version

CONTENT = bytes(range(256)) * 400
PACKED = gzip.compress(CONTENT)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a-idx1-ubyte.gz").write_bytes(PACKED)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=folder)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def source(*urls, sha256=None):
    download = Download("a-idx1-ubyte.gz", sha256 or hashlib.sha256(PACKED).hexdigest(), urls)
    members = {"a-idx1-ubyte": hashlib.sha256(CONTENT).hexdigest()}
    version = Version("idx", members, folders=(), downloads=(download,))
    return Source("toy", "toy", ("0", "1"), (1, 2, 2), 2, 2, (0.5,), (0.5,), (version,))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTPOLICY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_mirror_serves_where_the_first_place_does_not(server, capsys):
    found = fetch(source(f"{server}/gone/a-idx1-ubyte.gz", f"{server}/a-idx1-ubyte.gz"))
    assert read(found) == {"a-idx1-ubyte": CONTENT}
    assert "a-idx1-ubyte.gz" in capsys.readouterr().err  # the progress bar
    # Found in the cache, nothing is asked of a server again.
    assert fetch(source("http://127.0.0.1:9/a-idx1-ubyte.gz")).paths == found.paths


def test_another_content_is_refused(server, tmp_path):
    with pytest.raises(UserError, match="could not download a-idx1-ubyte.gz"):
        fetch(source(f"{server}/a-idx1-ubyte.gz", sha256="0" * 64))
    assert not list((tmp_path / "cache").glob("**/*.gz"))


def test_a_bar_without_a_known_size():
    bar = _Bar("file")
    bar.update(10)
    bar.reset()
    bar.close()

"""Results between machines: content and times, and nothing written that is there."""

import os

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.engines.files import pack, stamp, unpack


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "evaluation").mkdir(parents=True)
    (folder / "weights").write_bytes(b"\0\1" * 1000)
    (folder / "evaluation" / "clean.json").write_text("{}")
    (folder / "evaluation" / "empty").touch()
    os.utime(folder / "weights", ns=(1, 1_234_567_890_123_456_789))
    return folder


def test_a_folder_goes_and_comes(run, tmp_path):
    there = tmp_path / "there" / "run"
    unpack(pack(run), there)
    assert stamp(there) == stamp(run) != ()
    assert (there / "weights").read_bytes() == (run / "weights").read_bytes()


def test_a_file_goes_and_comes(run, tmp_path):
    there = tmp_path / "weights"
    unpack(pack(run / "weights"), there)
    assert stamp(there) == stamp(run / "weights")
    assert there.read_bytes() == (run / "weights").read_bytes()


def test_files_that_are_there_are_left_alone(run):
    packed = pack(run)
    before = {path: path.stat().st_ino for path in run.rglob("*") if path.is_file()}
    (run / "weights").write_bytes(b"changed")
    unpack(packed, run)
    after = {path: path.stat().st_ino for path in before}
    assert [path.name for path in before if before[path] != after[path]] == ["weights"]
    assert stamp(run) == packed.stamp


def test_locks_stay_where_they_are(run, tmp_path):
    before = stamp(run)
    for name in ("lock", "other.lock", ".weights.123.tmp"):
        (run / name).touch()
    assert stamp(run) == before
    unpack(pack(run), tmp_path / "there")
    assert not (tmp_path / "there" / "lock").exists()


def test_what_is_not_there_has_no_stamp(tmp_path):
    assert stamp(tmp_path / "nothing") == ()
    assert pack(tmp_path / "nothing").contents == ()


def test_a_place_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the folder"):
        unpack(pack(run), tmp_path / "file" / "run")

"""Ray alone: nodes that are lost, that share no file system, that have other software."""

import os
import subprocess
import sys

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.engines import Job, RayEngine
from robustpolicy.experiments.engines.ray_task import Driver, run_task
from tests.experiments.engines import jobs
from tests.experiments.engines.nodes import Nodes, session

pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.slow
def test_a_lost_node(tmp_path):
    with Nodes() as nodes:
        nodes.start(cpus=1)
        second = nodes.start(cpus=2)
        cut = []

        def tick():
            begun = [tmp_path / str(n) for n in range(3)]
            if not cut and all(path.exists() and path.read_text() for path in begun):
                cut.extend({int(path.read_text()) for path in begun} & set(session(second.pid)))
                nodes.cut_off(second)
                (tmp_path / "go on").touch()

        cells = [
            Job(str(n), jobs.hold, (tmp_path / str(n), tmp_path / "go on"), retries=0)
            for n in range(6)
        ]
        outcomes = RayEngine(nodes.address).run(cells, tick=tick)
    assert len(cut) == 2
    assert [one.error for one in outcomes] == [None] * 6
    assert not {one.value for one in outcomes} & set(cut)
    assert [one.attempts for one in outcomes] == [1] * 6  # it is not held against them


@pytest.mark.slow
def test_nodes_that_share_no_file_system(tmp_path):
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c",
             f'mount -t tmpfs none {tmp_path} && exec "$@"', "sh"]  # fmt: skip
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    folder = tmp_path / "prefix"
    results = [tmp_path / f"result{n}" for n in range(4)]
    cells = [
        Job("prefix", jobs.prefix, (folder,), result=folder),
        *(
            Job(path.name, jobs.branch, (folder, path), needs=("prefix",), result=path)
            for path in results
        ),
    ]
    with Nodes() as nodes:
        nodes.start(cpus=1)
        nodes.start(cpus=1, before=apart)
        first, *outcomes = RayEngine(nodes.address).run(cells)
    assert [one.error for one in (first, *outcomes)] == [None] * 5
    assert len({one.value for one in outcomes}) == 2  # some ran here, some there
    assert [one.attempts for one in outcomes] == [1] * 4
    assert [path.read_text() for path in results] == ["the weightsthe state"] * 4
    assert sorted(path.name for path in folder.rglob("*")) == ["deeper", "state", "weights"]


def test_a_node_with_other_software():
    driver = Driver("", os.getcwd(), "robustpolicy 0.0.1 (source 12345678), torch 1.0", {})
    answer, content = run_task(b"", None, [], driver)
    assert "has robustpolicy 0." in answer.attempt.error
    assert "the driver robustpolicy 0.0.1 (source 12345678), torch 1.0" in answer.attempt.error
    assert content is None


def test_a_job_that_no_node_can_take(ray_address):
    with pytest.raises(UserError, match="a asks for 1 CPUs and 1 GPUs of one node, the largest"):
        RayEngine(ray_address).run([Job("a", jobs.square, (1,), gpus=1)])
    # The connection is closed again.
    assert RayEngine(ray_address).run([Job("a", jobs.square, (3,))])[0].value == 9


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", "give host:port"),
        ("6379", "give host:port"),
        ("127.0.0.1:99999", "give host:port"),
    ],
)
def test_an_address_that_is_none(address, message):
    with pytest.raises(UserError, match=message) as caught:
        RayEngine(address).run([Job("a", jobs.square, (1,))])
    assert "\n" not in str(caught.value)


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'robustpolicy\[ray\]'"):
        RayEngine()

"""A Ray cluster for a test session, and the engines under test."""

import os

import pytest

from tests.experiments.engines.nodes import RAY, Nodes

os.environ.update(RAY)


@pytest.fixture(scope="session")
def ray_address():
    """A cluster of two workers."""
    with Nodes() as nodes:
        nodes.start(cpus=2)
        yield nodes.address


@pytest.fixture(
    scope="module", params=["local", pytest.param("ray", marks=pytest.mark.xdist_group("ray"))]
)
def engine(request):
    """Every engine, with two workers."""
    from robustpolicy.experiments.engines import LocalEngine, RayEngine

    if request.param == "local":
        return LocalEngine(2)
    return RayEngine(request.getfixturevalue("ray_address"))

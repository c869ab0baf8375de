"""Shared fixtures: data sets, a small trained model, and no way to touch the user's own cache."""

import os
import subprocess
import sys

import pytest
import torch

from robustpolicy.data import load_dataset, search_path
from robustpolicy.data.files import find
from robustpolicy.data.sources import SOURCES

torch.set_num_threads(1)  # several tests run at once


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """A cache of the test session's own, shared by its workers."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    os.environ["ROBUSTPOLICY_CACHE"] = str(shared / "cache")
    torch.set_num_threads(1)


def _real(name):
    if find(SOURCES[name], search_path()) is None:
        message = f"{name} is not on this machine: set ROBUSTPOLICY_DATA to the folder that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)  # CI must not pass on tests that nobody ran
        pytest.skip(message)
    return load_dataset(name)


@pytest.fixture(scope="session")
def mnist():
    return _real("mnist")


@pytest.fixture(scope="session")
def cifar10():
    return _real("cifar10")


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A finished run: LeNet5 on digits, a few epochs."""
    import dataclasses

    from robustpolicy.training import get_recipe, train

    recipe = dataclasses.replace(get_recipe("digits-ce").with_epochs(8), seed=3)
    return train(recipe, tmp_path_factory.mktemp("runs") / "digits", device="cpu")


@pytest.fixture
def cli(tmp_path):
    """Run the command line in a process of its own, in an empty folder."""

    def run(*arguments, timeout=240, **environment):
        return subprocess.run(
            [sys.executable, "-m", "robustpolicy", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return run

"""Calls in other processes: results in order, processes used again, errors with their name."""

import math
import os
import signal
import time

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.training.pool import tell
from robustpolicy.training.processes import run_processes


def test_results_in_order_from_processes_that_are_used_again():
    found = run_processes(os.getpid, [()] * 20, names=[""] * 20, workers=2)
    assert len(set(found)) <= 2
    assert os.getpid() not in found
    roots = run_processes(math.sqrt, [(n,) for n in range(5)], names=[""] * 5, workers=2)
    assert roots == [math.sqrt(n) for n in range(5)]


def test_messages_and_long_arguments():
    long = torch.arange(100_000)  # longer than what a pipe takes at once
    heard = []
    run_processes(
        tell, [(long,), ("b",)], names=["a", "b"], workers=2, listen=lambda *one: heard.append(one)
    )
    told = dict(heard)
    assert torch.equal(told[0], long)
    assert told[1] == "b"


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (int, ("x",), "second: ValueError: invalid literal"),
        (signal.raise_signal, (signal.SIGKILL,), "second: its process was killed by signal 9"),
        (os._exit, (3,), "second: its process ended with code 3"),
        (open, (os.devnull,), "second: TypeError: cannot pickle"),
    ],
)
def test_the_first_error_ends_all(function, arguments, message):
    begun = time.monotonic()
    jobs = [(time.sleep, (60,)), (function, arguments)]
    with pytest.raises(UserError, match=message):
        run_processes(call, jobs, names=["first", "second"], workers=2)
    assert time.monotonic() - begun < 50  # the other was ended, not waited for


def call(function, arguments):
    return function(*arguments)

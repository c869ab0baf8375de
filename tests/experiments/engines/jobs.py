"""What the jobs of the tests do; importable in other processes."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import torch

from robustpolicy import UserError
from robustpolicy.training import get_recipe
from robustpolicy.training.trainer import train


def square(number):
    return number**2


def leave(path, text):
    """Append to a file, which shows how often and in what order it was called."""
    with Path(path).open("a") as file:
        file.write(text + "\n")
    return text


def fail(path):
    leave(path, "failed")
    raise ValueError("it cannot be done\nand this is why")


def complain():
    raise UserError("2 is too much; give 1")


def die_once(path):
    """Kill the own process at the first call."""
    if not Path(path).exists():
        leave(path, "begun")
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return "done"


def hold(path, until):
    """Say which process this is, and wait for a file; a second call is done at once."""
    leave(path, str(os.getpid()))
    while len(Path(path).read_text().split()) == 1 and not Path(until).exists():
        time.sleep(0.05)
    return os.getpid()


def prefix(folder):
    """Leave a folder with files."""
    for name in ("weights", "deeper/state"):
        file = Path(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"the {file.name}")


def branch(folder, result):
    """Read what the prefix left, leave a file, and say on which file system."""
    time.sleep(2)
    text = Path(folder, "weights").read_text() + Path(folder, "deeper", "state").read_text()
    Path(result).write_text(text)
    return os.stat(result).st_dev


def surroundings():
    return torch.get_num_threads(), os.getcwd()


def recipe(seed, epochs):
    return dataclasses.replace(get_recipe("digits-policy").with_epochs(epochs), seed=seed)


def train_digits(folder, seed, epochs):
    """Train, and say which process does."""
    leave(Path(folder, "pids"), str(os.getpid()))
    train(recipe(seed, epochs), Path(folder, f"seed{seed}"), device="cpu")

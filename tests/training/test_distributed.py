"""Two processes under torchrun train what one does; gloo, on the loopback."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from robustpolicy.data import Joining, Split, epoch_batches
from robustpolicy.data.batches import epoch_order
from robustpolicy.draws import Shard, integers, normal, uniform
from robustpolicy.training import Run, train
from robustpolicy.training.distributed import Group
from robustpolicy.training.recipe import MadryAT, Recipe, Sgd, Trades, TwoStage, Watch

RECIPES = {
    # Sampled actions, random crops, an average, clipping: all that draws or sums over a batch.
    "two-stage": Recipe(
        "digits",
        "lenet5",
        TwoStage(threshold=0.5, actions="sampled"),
        Sgd(0.1, momentum=0.9, clip_norm=1.0),
        epochs=3,
        batch_size=50,
        augmentation="crop-flip",
        average=0.9,
        watch=Watch(watch_samples=31),
    ),
    "madry": Recipe(
        "digits", optimizer=Sgd(0.1), adversary=MadryAT(steps=2), epochs=2, batch_size=50
    ),
    "trades": Recipe(
        "digits",
        optimizer=Sgd(0.1),
        adversary=Trades(steps=2, weight_perturbation=0.01),
        epochs=2,
        batch_size=50,
    ),
}


def torchrun(processes, recipe, output, **kwargs):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
         "--master-addr", "127.0.0.1", "--master-port", str(port),
         "-m", "robustpolicy", "train", "--from", str(recipe), "--output", str(output),
         "--device", "cpu", "--threads", "1"],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_what_one_does(tmp_path, name):
    recipe = RECIPES[name]
    file = tmp_path / "r.json"
    file.write_text(json.dumps(recipe.to_json()))
    process = torchrun(2, file, tmp_path / "two")
    one = train(recipe, tmp_path / "one", device="cpu")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out.count("next: robustpolicy evaluate") == 1  # one of them speaks
    two = Run.open(tmp_path / "two")
    assert two.environment()["processes"] == 2
    for a, b in zip(one.history(), two.history(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4, abs=1e-5)
        assert a["watched_accuracy"] == pytest.approx(b["watched_accuracy"], abs=0.015)
        assert a.get("stage") == b.get("stage")
    mine, theirs = (load_file(run.path / "weights.safetensors") for run in (one, two))
    for key, value in mine.items():
        # The sign in an attack turns rounding into steps.
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_a_stopped_pair_goes_on(tmp_path):
    recipe = dataclasses.replace(RECIPES["two-stage"], epochs=12)
    file, output = tmp_path / "r.json", tmp_path / "run"
    file.write_text(json.dumps(recipe.to_json()))
    process = torchrun(2, file, output)
    deadline = time.time() + 100
    while not (output / "history.jsonl").exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # torchrun hands it on
    process.communicate(timeout=60)
    assert (output / "checkpoint.pt").exists()
    assert not (output / "DONE").exists()
    process = torchrun(2, file, output)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    whole = train(recipe, tmp_path / "whole", device="cpu")
    losses = [[record["loss"] for record in run.history()] for run in (whole, Run.open(output))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_rows_and_draws_of_the_processes_make_up_the_whole(size):
    whole = torch.Generator().manual_seed(3)
    expected = [f(whole) for f in DRAWS]
    parts = []
    for rank in range(size):
        shard = Shard(torch.Generator().manual_seed(3))
        rows = Group(rank, size).rows(7)
        shard.first, shard.total = rows.start, 7
        parts.append([f(shard, rows.stop - rows.start) for f in DRAWS])
    for number, value in enumerate(expected):
        assert torch.equal(torch.cat([part[number] for part in parts]), value)


CPU = torch.device("cpu")
DRAWS = [
    lambda source, n=7: uniform((n, 2), source, CPU, low=-1),
    lambda source, n=7: normal((n, 3), source, CPU),
    lambda source, n=7: integers(9, (n,), source, CPU),
]


def test_batches_of_the_processes_make_up_the_whole():
    split = Split(torch.arange(23, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(23))
    whole = list(epoch_batches(split, 10, 1))
    parts = [list(epoch_batches(split, 10, 1, rows=Group(rank, 4).rows)) for rank in range(4)]
    for number, (_, labels, total) in enumerate(whole):
        assert total == len(labels)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), labels)
        assert {part[number][2] for part in parts} == {total}


def test_joining_samples_are_a_share_of_every_batch():
    # 20 samples of the set; 7 that join, a quarter of each batch of 8.
    batches = epoch_order(27, 8, 4, Joining(7, 0.25))
    own = torch.cat([batch[batch < 20] for batch in batches])
    others = torch.cat([batch[batch >= 20] for batch in batches])
    assert sorted(own.tolist()) == list(range(20))
    assert [len(batch) for batch in batches] == [8, 8, 8, 4]
    assert [int((batch >= 20).sum()) for batch in batches] == [2, 2, 2, 2]
    assert sorted(others[:7].tolist()) == list(range(20, 27))  # one pass, then the next
    again = epoch_order(27, 8, 4, Joining(7, 0.25))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))

"""Many as one: each member is the run that it would be alone, whoever trains beside it.

Float32 trainings drift apart from the last digit on, by .1 in the weights within four epochs, so
equality over several epochs and stages is asked for in float64, against a plain loop; float32 is
compared with ``train`` over the first epochs, and packs with packs to the bit.
"""

import dataclasses
import signal

import numpy as np
import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import Split, epoch_batches, load_dataset, splits
from robustpolicy.evaluation import evaluate_run, paper_plan
from robustpolicy.models import build_model
from robustpolicy.randomness import derive_seed
from robustpolicy.training import Interrupted, Monitor, Run, get_recipe, train, train_fused
from robustpolicy.training.fused.members import check_model
from robustpolicy.training.fused.pack import Pack
from robustpolicy.training.recipe import (
    GCE,
    AdamW,
    CrossEntropy,
    MadryAT,
    Recipe,
    Sgd,
    TwoStage,
    Watch,
)
from robustpolicy.training.state import State
from tests.training.stopping import Stop, StopAt

#: A few hundred of the digits.
BASE = Recipe("digits", "lenet5", epochs=2, batch_size=32, validation=0.6)
STEPS = 18
HEAVY = Sgd(0.05, drops=(1,), momentum=0.9, weight_decay=1e-3)
#: Every kind of action and of first stage, with and without momentum; two switch at other epochs.
MEMBERS = [
    dataclasses.replace(BASE, **fields)
    for fields in (
        {"loss": CrossEntropy(), "optimizer": HEAVY},
        {"loss": TwoStage(warmup="cross-entropy", threshold=0.0), "seed": 1},
        {"loss": TwoStage(0.5, 0.25, 2.0, threshold=0.99), "seed": 2},
        {"loss": TwoStage(0.2, warmup="none", actions="sampled"), "seed": 3},
        {"loss": TwoStage(warmup="none", actions="expected"), "optimizer": Sgd(0.05)},
        {"loss": TwoStage(warmup_actions="expected", threshold=0.0), "epochs": 1},
        {"loss": TwoStage(warmup_actions="greedy", threshold=0.99), "optimizer": Sgd(0.02)},
    )
]


def fuse(recipes, folder, **options):
    paths = [folder / str(number) for number in range(len(recipes))]
    return train_fused(recipes, paths, device="cpu", **options)


def weights(run):
    return (run.path / "weights.safetensors").read_bytes()


def records(run):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in run.history()]


def distance(run, other):
    a, b = run.load_model().state_dict(), other.load_model().state_dict()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return fuse(MEMBERS, tmp_path_factory.mktemp("packed"), checkpoint_seconds=0)


@pytest.fixture(scope="module")
def split(digits):
    train_split, watched = splits(digits, "standard", BASE.validation)
    # Convolutions in float64 are slow.
    return tuple(Split(part.images[:250], part.labels[:250]) for part in (train_split, watched))


@pytest.mark.parametrize("number", range(len(MEMBERS)))
def test_a_member_is_the_run_it_would_be_alone(packed, tmp_path, number):
    alone = train(MEMBERS[number], tmp_path, device="cpu")
    assert distance(packed[number], alone) < 1e-5
    for record, other in zip(records(packed[number]), records(alone), strict=True):
        assert record == pytest.approx(other, abs=3e-3)  # one sample is 1.7e-3
    ours = packed[number]
    assert sorted(p.name for p in ours.path.iterdir()) == sorted(
        p.name for p in alone.path.iterdir()
    )
    sizes = [(run.path / "checkpoint.pt").stat().st_size for run in (ours, alone)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)  # its own weights, not the pack's
    environment = ours.environment()
    assert environment.pop("packed") == len(MEMBERS)
    assert environment == alone.environment()


def test_the_best_weights_and_patience(tmp_path):
    watch = Watch(watch_samples=20, watch_steps=2, keep="best", patience=1)
    recipe = dataclasses.replace(BASE, epochs=6, watch=watch)
    ours, plain = fuse([recipe, MEMBERS[5]], tmp_path)
    alone = train(recipe, tmp_path / "alone", device="cpu")
    assert 1 < len(records(ours)) < 6
    for record, other in zip(records(ours), records(alone), strict=True):
        assert record == pytest.approx(other, abs=3e-3)
    assert ours.weights.name == "best.safetensors"
    assert distance(ours, alone) < 1e-5
    assert weights(ours) != ours.weights.read_bytes()  # the last are not the best
    assert plain.done


def test_in_bfloat16(tmp_path):
    recipe = dataclasses.replace(BASE, loss=TwoStage(), epochs=1)
    (ours,) = fuse([recipe], tmp_path, precision="bfloat16")
    alone = train(recipe, tmp_path / "alone", device="cpu", precision="bfloat16")
    full = train(recipe, tmp_path / "float32", device="cpu")
    assert ours.environment()["precision"] == "bfloat16"
    assert distance(ours, alone) < 1e-3
    assert distance(ours, full) > 1e-6  # it did round


def plain_loop(recipe, train_split, watched, epochs):
    """The usual loop in float64: torch.optim.SGD, the public losses, one network."""
    state = State(recipe, torch.device("cpu"))
    model, sgd = state.model.double(), recipe.optimizer
    optimizer = torch.optim.SGD(
        model.parameters(), momentum=sgd.momentum, weight_decay=sgd.weight_decay
    )
    history = []
    for epoch in range(epochs):
        total = 0.0
        for group in optimizer.param_groups:
            group["lr"] = state.recipe.optimizer.learning_rate * 0.1 ** (
                sum(epoch >= drop for drop in sgd.drops)
            )
        order = derive_seed(recipe.seed, "order", epoch)
        for images, labels, _ in epoch_batches(
            train_split,
            recipe.batch_size,
            order,
            augmentation=recipe.augmentation,
            generator=state.generator,
        ):
            optimizer.zero_grad()
            loss = state.loss(model(images.double()), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        with torch.no_grad():
            right = model(watched.inputs().double()).argmax(1) == watched.labels
        accuracy = int(right.sum()) / len(right)
        history.append((total / len(train_split), accuracy, state.stage))
        if state.stage:
            state.loss.observe(accuracy)
    return model.state_dict(), history


def check_in_float64(recipes, train_split, watched, epochs):
    states = [State(recipe, torch.device("cpu")) for recipe in recipes]
    for state in states:
        state.model.double()
    pack = Pack(states, train_split)
    for _ in range(epochs):
        pack.begin_epoch()
        while pack.step < pack.steps:
            pack.train_step()
        for state, accuracy in zip(states, pack.accuracies(watched), strict=True):
            state.end_epoch(accuracy, len(train_split))
    for state in states:
        expected, history = plain_loop(state.recipe, train_split, watched, epochs)
        found = [(r["loss"], r["watched_accuracy"], r.get("stage")) for r in state.history]
        assert found == [(pytest.approx(loss, abs=1e-9), *rest) for loss, *rest in history]
        for name, value in state.model.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-8)
    return states


def test_float64_over_stages_and_epochs(split):
    """Members that switch at different epochs, with momentum, decay and drops."""
    quick = Sgd(0.05, momentum=0.9)
    recipes = [
        dataclasses.replace(BASE, epochs=3, seed=seed, loss=loss, optimizer=optimizer)
        for seed, (loss, optimizer) in enumerate(
            [
                (TwoStage(0.5, warmup="cross-entropy", threshold=0.0), quick),
                (TwoStage(0.1, warmup="cross-entropy", threshold=0.0, actions="sampled"), quick),
                (CrossEntropy(), HEAVY),
                (TwoStage(0.5, 0.25, reward=2.0, threshold=0.12), Sgd(0.05, drops=(2,))),
            ]
        )
    ]
    states = check_in_float64(recipes, *split, epochs=3)
    begun = {tuple(r["stage"] for r in s.history) for s in states if s.stage}
    assert len(begun) == 2, "members should switch at different epochs"


def test_float64_with_augmentation_and_normalisation(split):
    recipes = [
        dataclasses.replace(
            BASE, seed=seed, loss=loss, augmentation="crop-flip", normalize=True, epochs=1
        )
        for seed, loss in enumerate([TwoStage(), CrossEntropy()])
    ]
    check_in_float64(recipes, *split, epochs=1)


def test_place_and_company_change_no_bit(packed, tmp_path):
    order = [4, 6, 5, 0, 1]
    turned = fuse([MEMBERS[number] for number in order], tmp_path / "turned")
    for number, run in zip(order, turned, strict=True):
        assert weights(run) == weights(packed[number])
        assert records(run) == records(packed[number])
    for number, run in zip((2, 3), fuse(MEMBERS[2:4], tmp_path, max_members=1), strict=True):
        assert weights(run) == weights(packed[number])
        assert run.environment()["packed"] == 1


def test_grouped_convolutions_train_the_same(packed, tmp_path):
    (run,) = fuse(MEMBERS[:1], tmp_path, row_convolutions=False)
    assert distance(run, packed[0]) < 1e-5


@pytest.mark.parametrize("step", [10, STEPS, STEPS + 1])
def test_resume_after_a_kill(packed, tmp_path, step):
    numbers = [0, 3, 5]
    some = [MEMBERS[number] for number in numbers]
    with pytest.raises(Stop):
        fuse(some, tmp_path, monitor=StopAt(step), checkpoint_seconds=0)
    for number, run in zip(numbers, fuse(some, tmp_path), strict=True):
        assert weights(run) == weights(packed[number])
        assert records(run) == records(packed[number])


def test_a_kill_among_the_checkpoints_leaves_members_at_different_epochs(
    packed, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def killed(self, state):
        if self.path.name == "1":
            raise Killed
        return write(self, state)

    write = Run.save_checkpoint
    monkeypatch.setattr(Run, "save_checkpoint", killed)
    with pytest.raises(Killed):
        fuse(MEMBERS[:3], tmp_path, checkpoint_seconds=0)
    monkeypatch.undo()
    assert len(Run.open(tmp_path / "0").history()) == 1
    for run, undisturbed in zip(fuse(MEMBERS[:3], tmp_path), packed[:3], strict=True):
        assert weights(run) == weights(undisturbed)
        assert records(run) == records(undisturbed)


def test_a_signal_saves_within_the_epoch_and_either_trainer_goes_on(packed, tmp_path):
    with pytest.raises(Interrupted, match="the same call goes on"):
        fuse(MEMBERS[:4], tmp_path, monitor=StopAt(STEPS + 5, signal.SIGTERM))
    for number in range(4):
        state = torch.load(tmp_path / str(number) / "checkpoint.pt", weights_only=True)
        assert (state["epoch"], state["step"]) == (1, 5)
    one = train(MEMBERS[3], tmp_path / "3", device="cpu")
    assert distance(one, packed[3]) < 1e-5
    # One has stopped within an epoch, one has not begun, one is done.
    runs = fuse(MEMBERS[:5], tmp_path)
    for run, undisturbed in zip(runs, packed[:5], strict=True):
        if run.path != one.path:
            assert weights(run) == weights(undisturbed)
            assert records(run) == records(undisturbed)
    assert weights(runs[3]) == weights(one)


def test_going_on_with_a_run_that_train_has_begun(packed, tmp_path):
    with pytest.raises(Interrupted):
        train(MEMBERS[2], tmp_path / "2", device="cpu", monitor=StopAt(STEPS + 5, signal.SIGINT))
    runs = fuse(MEMBERS[:3], tmp_path)
    assert distance(runs[2], packed[2]) < 1e-5
    assert weights(runs[0]) == weights(packed[0])


class Listen(Monitor):
    def __init__(self):
        self.said, self.records, self.starts = [], [], []

    def start(self, recipe, epoch, steps):
        self.starts.append((epoch, steps))

    def epoch(self, record):
        self.records.append(record)

    def warn(self, message):
        self.said.append(message)


def test_a_member_that_diverges_harms_no_other(packed, tmp_path):
    wild = dataclasses.replace(BASE, optimizer=Sgd(1e20, momentum=0.5), seed=5)
    listen = Listen()
    mixed = [MEMBERS[0], wild, *MEMBERS[1:3]]
    runs = fuse(mixed, tmp_path, monitor=listen)
    (message,) = listen.said
    assert "1 diverged in epoch 1 and is left out" in message
    assert [run.done for run in runs] == [True, False, True, True]
    for run, undisturbed in zip([runs[0], *runs[2:]], packed[:3], strict=True):
        assert weights(run) == weights(undisturbed)
    with pytest.raises(UserError, match="not finished"):
        runs[1].load_model()


def test_the_monitor_hears_of_every_epoch_of_every_member(tmp_path):
    listen = Listen()
    runs = fuse(MEMBERS[4:6], tmp_path, monitor=listen)
    assert listen.starts[0] == (0, STEPS)
    heard = [record for record in listen.records if record["run"] == str(runs[0].path)]
    assert [{k: v for k, v in r.items() if k != "run"} for r in heard] == runs[0].history()
    assert len(listen.records) == 2 + 1
    assert fuse(MEMBERS[4:6], tmp_path, monitor=Listen())[0].done  # nothing left to do


def test_a_data_set_of_your_own(digits, tmp_path):
    arrays = {
        f"{part}_{what}": getattr(digits, f"{part}_{what}")[:100].numpy()
        for part in ("train", "test")
        for what in ("images", "labels")
    }
    np.savez(tmp_path / "few.npz", **arrays)
    recipe = dataclasses.replace(BASE, dataset=str(tmp_path / "few.npz"), validation=0.1)
    runs = fuse([recipe, dataclasses.replace(recipe, seed=1)], tmp_path / "runs")
    alone = train(recipe, tmp_path / "alone", device="cpu")
    (tmp_path / "few.npz").unlink()
    assert (runs[1].path / "dataset.json").exists()
    assert distance(runs[0], alone) < 1e-5


def test_a_fused_run_is_evaluated_like_any_other(packed, digits):
    result = evaluate_run(
        packed[0],
        dataclasses.replace(paper_plan("digits"), samples=20),
        lambda: load_dataset("digits"),
        torch.device("cpu"),
    )
    assert len(result["attacks"]["clean"]["robust"]) == 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 64}, r"differ in batch_size \(32 and 64\).*seed, loss, optimizer"),
        ({"normalize": True}, r"differ in normalize \(False and True\)"),
        ({"dataset": "mnist"}, r"differ in dataset \(digits and mnist\)"),
        ({"protocol": "paper"}, r"differ in protocol \(standard and paper\)"),
        ({"loss": GCE()}, "loss is gce; fused training takes cross-entropy or two-stage"),
        ({"adversary": MadryAT()}, "adversary is madry; fused training takes none"),
        ({"optimizer": AdamW()}, "optimizer is adamw; fused training takes sgd"),
        ({"optimizer": Sgd(clip_norm=1.0)}, r"optimizer\.clip_norm is 1\.0; fused training has no"),
        ({"loss": TwoStage(entropy=0.1)}, r"loss\.entropy is 0\.1; fused training has no"),
        ({"average": 0.99}, "recipe field average is 0.99; fused training has no"),
    ],
)
def test_what_cannot_be_fused_is_named(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        fuse([BASE, dataclasses.replace(BASE, **fields)], tmp_path)
    assert not list(tmp_path.iterdir())


def test_models_with_a_state_of_their_own_are_refused(tmp_path):
    with pytest.raises(UserError, match="model small-cnn cannot be fused.*Dropout or BatchNorm"):
        fuse([dataclasses.replace(BASE, model="small-cnn")], tmp_path / "small-cnn")
    for name in ("vgg13", "resnet18"):
        with pytest.raises(UserError, match=f"model {name} cannot be fused.*Batch norm"):
            check_model(build_model(name), name, torch.rand(2, 3, 32, 32))
    check_model(build_model("lenet5"), "lenet5", torch.rand(2, 1, 28, 28))


def test_folders_and_counts(tmp_path):
    with pytest.raises(UserError, match="no recipes"):
        train_fused([], [])
    with pytest.raises(UserError, match="2 recipes and 1 outputs"):
        train_fused([BASE, BASE], [tmp_path])
    with pytest.raises(UserError, match="given twice"):
        train_fused([BASE, get_recipe("digits-ce")], [tmp_path, tmp_path / ".." / tmp_path.name])
    with pytest.raises(UserError, match="max_members is 0"):
        fuse([BASE], tmp_path, max_members=0)

"""Evaluating models and data sets of one's own: what is loaded, and what is refused."""

import json
import shutil
import sys

import pytest
import torch

from robustpolicy import PGD, Threat, UserError
from robustpolicy.data import load_dataset
from robustpolicy.evaluation import Plan, evaluate_run, load_target, paper_plan
from robustpolicy.evaluation.layout import arrange
from robustpolicy.evaluation.verify import verify
from robustpolicy.evaluation.workers import evaluate_in_workers
from robustpolicy.models import build_model
from robustpolicy.training import Recipe, Run, train
from robustpolicy.training.recipe import Sgd
from tests.pictures import CODE, write_pictures

CPU = torch.device("cpu")
PLAN = Plan(Threat(0.1), ("clean", PGD(steps=5)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    """A folder with mine.py, pictures, and a run on them."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", sys.path[:])
        (folder / "mine.py").write_text(CODE)
        write_pictures(folder / "pictures", digits)
        train(Recipe("pictures", "mine:make", optimizer=Sgd(0.05), epochs=6, batch_size=8), "run")
    sys.modules.pop("mine", None)
    return folder


@pytest.fixture(autouse=True)
def _copy(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    yield
    sys.modules.pop("mine", None)


def test_a_run_knows_its_data():
    target = load_target("run")
    assert target.dataset == "pictures"
    result = PLAN.run(target.model, target.load())
    assert result["dataset"] == "pictures"
    assert result["attacks"]["clean"]["robust_accuracy"] > 0.8


def test_without_its_folder_a_run_can_be_evaluated_elsewhere(tmp_path):
    shutil.move("pictures", "moved")
    target = load_target("run")
    with pytest.raises(UserError, match=r"run was trained on pictures, which cannot .* --dataset"):
        target.load()
    data = load_target("run", dataset="moved").load()
    assert data.source.name == "moved"


def test_a_folder_that_has_changed_is_refused_unless_named():
    shutil.copy("pictures/one/0.png", "pictures/one/new.png")
    with pytest.raises(UserError, match=r"test images may have been trained on"):
        load_target("run").load()
    assert load_target("run", dataset="pictures").load().source.train == 49


def test_other_data_must_have_the_shape_and_the_classes():
    with pytest.raises(UserError, match=r"trained on the classes one, two, zero, digits has 0, 1"):
        load_target("run", dataset="digits").load()
    shutil.copytree("pictures", "other")
    shutil.move("other/zero", "other/nought")
    with pytest.raises(UserError, match=r"other has nought, one, two"):
        load_target("run", dataset="other").load()
    with pytest.raises(UserError, match=r"shape \(1, 28, 28\), ./pictures has \(1, 20, 20\)"):
        load_target("run", dataset="./pictures", image_size=20).load()
    with pytest.raises(UserError, match=r"leave --image-size out"):
        load_target("run", image_size=20)


def test_a_run_of_the_package_on_images_of_ones_own(digits, digits_run, tmp_path):
    shutil.rmtree("pictures")
    write_pictures(tmp_path / "pictures", digits)
    with pytest.raises(UserError, match="digits"):  # ten classes there, three here
        load_target(str(digits_run.path), dataset="pictures").load()


def test_what_is_not_there_any_more(tmp_path):
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UserError, match=r"run needs its model mine:make: .*No module named 'mine'"):
        load_target("run")


def test_kept_evaluations_tell_data_apart(tmp_path):
    run = Run.open("run")

    def evaluated(target):
        return evaluate_run(run, PLAN, target.load, CPU, dataset=target.dataset)

    first = evaluated(load_target("run"))
    assert len(list((tmp_path / "run/evaluation").iterdir())) == 1
    assert evaluated(load_target("run")) == first
    shutil.copytree("pictures", "fewer")
    for path in list((tmp_path / "fewer/one").iterdir())[:10]:
        path.unlink()
    other = evaluated(load_target("run", dataset="fewer"))
    assert (first["n"], other["n"]) == (12, 10)
    assert len(list((tmp_path / "run/evaluation").iterdir())) == 2


def test_models_as_code_and_as_weights_have_the_classes_of_the_data():
    (model, run) = load_target("mine:make", dataset="pictures"), load_target("run")
    assert model.model[-1].out_features == 3
    weights = load_target("run/weights.safetensors", "mine:make", "pictures")
    x = run.load().test_images.float() / 255
    assert torch.equal(weights.model(x), run.model(x))
    with pytest.raises(UserError, match="name the data set of mine:make with --dataset"):
        load_target("run/weights.safetensors", "mine:make")
    with pytest.raises(UserError, match="unknown model 'alexnet'"):
        load_target("run/weights.safetensors", "alexnet")


def test_workers_and_verify(tmp_path):
    words = ("run", None, None, 0)
    dataset = load_dataset("pictures")
    chosen = PLAN.choose(dataset)
    alone = PLAN.evaluate(load_target(*words).model, dataset, chosen)
    shared = evaluate_in_workers(
        words, PLAN, chosen, workers=2, device=CPU, state=tmp_path / "state",
        about={"target": list(words)},
    )  # fmt: skip
    assert torch.equal(shared.attacks["pgd"].robust, alone.attacks["pgd"].robust)
    found = verify(tmp_path / "state", CPU)
    assert found.fine
    clean, pgd = (alone.attacks[name].robust for name in ("clean", "pgd"))
    assert found.examples == int((clean & ~pgd).sum()) > 0
    for path in (tmp_path / "pictures/two").iterdir():
        shutil.copy(tmp_path / "pictures/zero" / path.name, path)
    with pytest.raises(UserError, match="pictures has changed since run was trained on it"):
        verify(tmp_path / "state", CPU)
    for file in (tmp_path / "state").glob("*/state.json"):  # as if it had been named
        kept = json.loads(file.read_text())
        kept["about"]["target"][2] = "pictures"
        file.write_text(json.dumps(kept))
    (complaint, _) = verify(tmp_path / "state", CPU).complaints
    assert "pictures has other images or labels now" in complaint


def test_the_paper_has_no_epsilon_for_them():
    with pytest.raises(UserError, match="no epsilon for pictures; give a radius with --epsilon"):
        paper_plan("pictures")


def test_a_model_that_cannot_take_channels_last_is_evaluated_in_torchs_own_layout():
    x = torch.rand(4, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    model = build_model("mine:View", 3).eval()
    state = torch.get_rng_state()
    expected = model(x)
    with pytest.raises(RuntimeError, match="view size"):
        model.to(memory_format=torch.channels_last)(x)
    assert torch.equal(model(arrange(model, x)), expected)
    fast = build_model("mine:make", 3).eval()
    torch.set_rng_state(state)
    arrange(fast, x)
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.get_rng_state(), state)

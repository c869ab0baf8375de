"""The examples run, for real but small."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robustpolicy import TwoStageLoss

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def imbalanced():
    spec = importlib.util.spec_from_file_location("imbalanced", EXAMPLES / "imbalanced.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_percent_of_the_rare_classes_is_left(imbalanced, mnist):
    chosen = imbalanced.cut(mnist.train_labels, 0)
    before = mnist.train_labels.bincount()
    left = mnist.train_labels[chosen].bincount()
    for c in range(10):
        assert left[c] == (round(0.01 * int(before[c])) if c in imbalanced.RARE else before[c])
    assert not torch.equal(chosen, imbalanced.cut(mnist.train_labels, 1))
    weights = imbalanced.inverse_frequency(mnist.train_labels[chosen])
    torch.testing.assert_close(weights * left, torch.full((10,), left.sum() / 10))


def test_weighted_cross_entropy_is_pytorchs_own(imbalanced):
    weights, logits, y = torch.rand(10) + 0.1, torch.randn(30, 10), torch.randint(10, (30,))
    ours = imbalanced.LOSSES["cross-entropy, weighted"](weights)(logits, y)
    theirs = torch.nn.CrossEntropyLoss(weights)(logits, y)
    torch.testing.assert_close(ours.sum() / weights[y].sum(), theirs)


def test_it_runs_on_part_of_mnist(imbalanced, mnist, monkeypatch, capsys):
    part = dataclasses.replace(
        mnist,
        train_images=mnist.train_images[:4000],
        train_labels=mnist.train_labels[:4000],
        test_images=mnist.test_images[:2000],
        test_labels=mnist.test_labels[:2000],
    )
    monkeypatch.setattr(imbalanced, "load_dataset", lambda *_: part)
    found = imbalanced.main(["--epochs", "3", "--seeds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:30].strip() for line in lines[1:]] == list(found) == list(imbalanced.LOSSES)
    assert all(recall.shape == (1, 10) for recall in found.values())
    common = [c for c in range(10) if c not in imbalanced.RARE]
    assert found["cross-entropy"][0, common].mean() > 0.7
    assert found["cross-entropy"][0, list(imbalanced.RARE)].mean() < 0.5
    rows = [line for line in lines if line.startswith("cross-entropy  ")]
    assert f"{100 * found['cross-entropy'].mean():.1f}" in rows[0]


def test_the_two_stages_watch_the_mean_recall(imbalanced, mnist, monkeypatch):
    seen = []
    monkeypatch.setattr(TwoStageLoss, "observe", lambda self, accuracy: seen.append(accuracy))
    monkeypatch.setattr(TwoStageLoss, "forward", lambda self, logits, y: 0 * logits.sum(1))
    images, labels = mnist.train_images[:3000], mnist.train_labels[:3000]
    chosen = imbalanced.cut(labels, 0)
    images, labels = images[chosen], labels[chosen]
    weights = imbalanced.inverse_frequency(labels)
    model = imbalanced.train(TwoStageLoss(), weights, images, labels, 1, 0)  # learns nothing
    assert seen == [pytest.approx(imbalanced.recalls(model, images, labels).mean().item())]


def test_bad_input_is_one_line(imbalanced, tmp_path, capsys):
    with pytest.raises(SystemExit):
        imbalanced.main(["--epochs", "0"])
    assert "must be at least 1" in capsys.readouterr().err
    command = [sys.executable, str(EXAMPLES / "imbalanced.py"), "--data-dir", str(tmp_path / "no")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode
    assert done.stderr.startswith("error: ")

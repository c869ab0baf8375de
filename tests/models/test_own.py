"""Models of one's own by module:callable."""

import sys

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.models import build_model

CODE = """
from torch import nn
def make(num_classes): return nn.Linear(4, num_classes)
class Net(nn.Linear):
    def __init__(self, n): super().__init__(4, n)
ready = nn.Linear(4, 10)
def lazy(): return nn.LazyLinear(3)
def text(): return "a model"
"""


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "ownmodels.py").write_text(CODE)
    yield
    sys.modules.pop("ownmodels", None)


@pytest.mark.parametrize("name", ["make", "Net"])
def test_it_has_as_many_classes_as_asked_for(name):
    assert build_model(f"ownmodels:{name}", 3)(torch.rand(2, 4)).shape == (2, 3)


def test_weights_come_from_the_global_generator():
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(build_model("ownmodels:make", 3).weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_a_model_that_is_there_is_copied():
    first, second = build_model("ownmodels:ready"), build_model("ownmodels:ready")
    assert torch.equal(first.weight, second.weight)
    with torch.no_grad():
        first.weight.zero_()
    assert second.weight.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "ownmodels:text returned str; it must return an nn.Module"),
        ("lazy", "lazy layers"),
        ("absent", "no attribute 'absent'; it must be importable from here"),
    ],
)
def test_what_is_no_model_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        build_model(f"ownmodels:{name}")

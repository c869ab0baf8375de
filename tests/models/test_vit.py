"""The vision transformer: torch's own layers as oracle, attacks, layouts, precisions, learning."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustpolicy import PGD, Threat, UserError
from robustpolicy.data import to_float
from robustpolicy.models import ViT

SHAPES = {"vit-mnist": (1, 28, 128), "vit-cifar10": (3, 32, 192)}


@pytest.fixture(params=SHAPES.values(), ids=list(SHAPES))
def case(request):
    """A model of fresh weights and four inputs, float64."""
    channels, side, dim = request.param
    torch.manual_seed(0)
    model = ViT(channels=channels, side=side, dim=dim).double()
    return model, torch.rand(4, channels, side, side, dtype=torch.float64)


def textbook(model, x):
    """The same network out of torch's encoder layers, and patches cut by hand."""
    dim, weight = model.norm.weight.numel(), model.patches.weight.flatten(1)
    patches = F.unfold(x, 4, stride=4).transpose(1, 2)
    tokens = patches @ weight.T + model.patches.bias + model.positions
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            dim, 4, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True, dtype=x.dtype
        )
        theirs = {
            "self_attn.in_proj": block.qkv,
            "self_attn.out_proj": block.projection,
            "linear1": block.fc1,
            "linear2": block.fc2,
            "norm1": block.norm1,
            "norm2": block.norm2,
        }
        state = {
            name + ("_" if name.endswith("in_proj") else ".") + kind: value
            for name, part in theirs.items()
            for kind, value in part.state_dict().items()
        }
        layer.load_state_dict(state)
        tokens = layer(tokens)
    return model.classifier(model.norm(tokens).mean(1))


def test_equals_torchs_encoder_layers(case):
    model, x = case
    x.requires_grad_()
    ours, theirs = model(x), textbook(model, x)
    torch.testing.assert_close(ours, theirs)
    ours, theirs = (torch.autograd.grad(q[:, 3].sum(), x)[0] for q in (ours, theirs))
    torch.testing.assert_close(ours, theirs)


def test_every_patch_and_its_place_count(case):
    model, x = case
    for spot in ((0, 0), (-1, -1), (13, 14)):
        other = x.clone()
        other[:, :, *spot] = 1 - other[:, :, *spot]
        assert (model(other) - model(x)).abs().amax() > 1e-6
    assert (model(x.flip(3)) - model(x)).abs().amax() > 1e-3


def test_layouts_and_precisions_agree(case):
    model, x = case
    exact = model(x)
    model, x = model.float(), x.float()
    torch.testing.assert_close(model(x).double(), exact, rtol=1e-4, atol=1e-5)
    model = model.to(memory_format=torch.channels_last)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(last).double(), exact, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(last)
        F.cross_entropy(low, torch.arange(4)).backward()
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), exact, rtol=0.1, atol=0.05)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_compiled_it_is_one_graph():
    model, x = ViT(channels=1, side=28, dim=32).double(), torch.rand(4, 1, 28, 28).double()
    graph = torch.compile(model, fullgraph=True, backend="aot_eager")
    ours, theirs = graph(x), model(x)
    torch.testing.assert_close(ours, theirs)
    weights = list(model.parameters())
    ours, theirs = (torch.autograd.grad(q.square().sum(), weights) for q in (ours, theirs))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_attacks_find_their_way(case):
    model, x = case
    model, x = model.float(), x.float()
    y = model(x).argmax(1)  # right as it is
    adversarial = PGD(steps=5, step_size=0.02)(model, x, y, Threat(0.1))
    before, after = (F.cross_entropy(model(images), y) for images in (x, adversarial))
    assert after > before + 0.05


@pytest.mark.parametrize("settings", [{"side": 30}, {"side": 2}, {"dim": 130}, {"dim": 0}])
def test_bad_sizes(settings):
    with pytest.raises(UserError, match="give multiples of 4 and 4"):
        ViT(**settings)


@pytest.mark.slow
def test_it_learns_the_digits(digits):
    torch.manual_seed(0)
    model = ViT(channels=1, side=28, dim=64).to(memory_format=torch.channels_last)
    images, labels = to_float(digits.train_images), digits.train_labels
    epochs, steps = 12, -(-len(labels) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        right = model(to_float(digits.test_images)).argmax(1) == digits.test_labels
    assert right.float().mean() > 0.88

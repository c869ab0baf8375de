"""Convolution, pooling and ReLU as one: torch's own layers are the oracle, ties included."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.models import LeNet5
from robustpolicy.models.pooling import SMALLEST_BATCH, conv_pool_relu

SHAPES = [  # channels, height, width, out channels, kernel, padding
    (1, 28, 28, 6, 5, (2, 2)),
    (6, 14, 14, 16, 5, (0, 0)),
    (2, 6, 10, 3, 3, (1, 1)),
    (3, 4, 6, 1, 1, (0, 0)),
    (2, 7, 8, 4, 3, (0, 2)),  # an odd height: torch's own way
    (1, 8, 6, 2, 3, (2, 0)),
]


def textbook(conv, x):
    return F.max_pool2d(F.relu(conv(x)), 2)


class Textbook(LeNet5):
    def forward(self, x):
        x = textbook(self.conv2, textbook(self.conv1, x))
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))


def is_fast(y):
    return "ConvPoolReLU" in y.grad_fn.name()


def gradients(function, conv, x, weights):
    """Of everything, for an output that is weighted so that no two of its places are alike."""
    x = x.clone().requires_grad_()
    y = function(conv, x)
    return y.detach(), *torch.autograd.grad((y * weights).sum(), [x, conv.weight, conv.bias])


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_numbers_agree_to_the_bit(shape):
    """Sums of small whole numbers are exact, and full of ties."""
    channels, height, width, out, k, padding = shape
    draw = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(channels, out, k, padding=padding)
    with torch.no_grad():
        conv.weight.copy_(torch.randint(-1, 2, conv.weight.shape, generator=draw))
        conv.bias.copy_(torch.randint(-1, 2, conv.bias.shape, generator=draw))
    x = torch.randint(0, 2, (33, channels, height, width), generator=draw).float()
    y = textbook(conv, x)
    windows = F.unfold(conv(x).flatten(0, 1)[:, None], 2, stride=2)
    best = windows.amax(1, keepdim=True)
    assert ((windows == best).sum(1) > 1)[best[:, 0] > 0].float().mean() > 0.05  # ties that count
    weights = torch.randint(-3, 4, y.shape, generator=draw).float()
    ours = gradients(conv_pool_relu, conv, x, weights)
    for mine, theirs in zip(ours, gradients(textbook, conv, x, weights), strict=True):
        assert torch.equal(mine, theirs)
    assert is_fast(conv_pool_relu(conv, x)) == (height % 2 == 0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_a_step_of_lenet5_on_mnist_is_the_textbooks(mnist, dtype, tolerance):
    """Equal pixels of the background are ties, so the input's gradient shows the rule for them."""
    torch.manual_seed(0)
    model = LeNet5().to(dtype)
    oracle = Textbook().to(dtype)
    oracle.load_state_dict(model.state_dict())
    model.to(memory_format=torch.channels_last)
    x, y = mnist.train_images[:128].to(dtype) / 255, mnist.train_labels[:128]
    found = []
    for network in (model, oracle):
        inputs = x.clone().requires_grad_()
        logits = network(inputs)
        F.cross_entropy(logits, y).backward()
        slopes = {name: p.grad for name, p in network.named_parameters()}
        found.append({"logits": logits.detach(), "input": inputs.grad, **slopes})
    for name, theirs in found[1].items():
        error = (found[0][name] - theirs).abs().max() / theirs.abs().max()
        assert float(error) < tolerance, name


def test_frozen_parameters_and_inputs_without_gradient():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    x = torch.rand(40, 2, 6, 6, dtype=torch.float64)
    plain = textbook(conv, x)
    assert is_fast(conv_pool_relu(conv, x))
    weights = torch.rand_like(plain)
    _, to_x, to_weight, to_bias = gradients(textbook, conv, x, weights)
    (conv_pool_relu(conv, x) * weights).sum().backward()
    torch.testing.assert_close(conv.weight.grad, to_weight)
    torch.testing.assert_close(conv.bias.grad, to_bias)
    conv.requires_grad_(False)
    x.requires_grad_()
    (conv_pool_relu(conv, x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, to_x)


def test_without_gradients_it_is_the_same_to_the_bit():
    conv, x = nn.Conv2d(1, 6, 5, padding=2), torch.rand(40, 1, 28, 28)
    with torch.no_grad():
        quiet = conv_pool_relu(conv, x)
    with torch.inference_mode():
        inferred = conv_pool_relu(conv, x)
    y = conv_pool_relu(conv, x)
    assert is_fast(y)
    assert torch.equal(quiet, y)
    assert torch.equal(inferred, y)


def test_not_a_number_stays_one():
    conv, x = nn.Conv2d(1, 2, 3, padding=1), torch.rand(40, 1, 8, 8)
    x[3, 0, 4, 4] = torch.nan
    assert torch.equal(conv_pool_relu(conv, x).isnan(), textbook(conv, x).isnan())


@pytest.fixture
def small():
    """A small network with a smooth head, its parameters and inputs, float64."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 3, padding=1).double()
    x = torch.rand(SMALLEST_BATCH, 1, 4, 4, dtype=torch.float64)
    parameters = dict(conv.named_parameters())

    def loss(own, inputs, function=conv_pool_relu):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv

            def forward(self, inputs):
                return function(self.conv, inputs).tanh().pow(2).sum()

        return functional_call(Net(), {f"conv.{k}": v for k, v in own.items()}, (inputs,))

    return loss, parameters, x


def test_hessian_vector_products_by_double_backward(small):
    loss, parameters, x = small
    found = []
    for function in (conv_pool_relu, textbook):
        inputs = x.clone().requires_grad_()
        wanted = [*parameters.values(), inputs]
        first = torch.autograd.grad(loss(parameters, inputs, function), wanted, create_graph=True)
        draw = torch.Generator().manual_seed(1)
        vectors = [torch.randn(g.shape, generator=draw, dtype=g.dtype) for g in first]
        inner = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
        found.append([*first, *torch.autograd.grad(inner, wanted)])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert float(found[0][-1].abs().max()) > 0


def test_function_transforms(small):
    loss, parameters, x = small
    ones = {name: torch.ones_like(p) for name, p in parameters.items()}
    stacked = {name: torch.stack([p, 2 * p]) for name, p in parameters.items()}

    def derivatives(function):
        def of(own, inputs=x):
            return loss(own, inputs, function)

        along = jvp(of, (parameters,), (ones,))[1]
        return along, hessian(of)(parameters)["weight"]["bias"], vmap(grad(of))(stacked)["weight"]

    for mine, theirs in zip(derivatives(conv_pool_relu), derivatives(textbook), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_forward_mode(small):
    loss, parameters, x = small
    found = []
    for function in (conv_pool_relu, textbook):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            found.append(forward_ad.unpack_dual(loss(parameters, dual, function)).tangent)
    torch.testing.assert_close(*found)


def test_what_takes_the_place_of_a_convolution_is_called():
    x = torch.rand(40, 1, 8, 8)
    called = []

    class Other(nn.Conv2d):
        def forward(self, inputs):
            called.append("other")
            return super().forward(inputs)

    conv_pool_relu(Other(1, 2, 3, padding=1), x)
    conv = nn.Conv2d(1, 2, 3, padding=1)
    for register in (conv.register_forward_hook, conv.register_forward_pre_hook):
        handle = register(lambda *_: called.append("hook"))
        conv_pool_relu(conv, x)
        handle.remove()
    handle = conv.register_full_backward_hook(lambda *_: called.append("backward"))
    conv_pool_relu(conv, x.clone().requires_grad_()).sum().backward()
    handle.remove()
    assert called == ["other", "hook", "hook", "backward"]
    assert is_fast(conv_pool_relu(conv, x))


def test_what_it_does_not_suit_goes_torchs_own_way():
    x = torch.rand(40, 1, 8, 8)
    conv = nn.Conv2d(1, 2, 3, padding=1)
    assert not is_fast(conv_pool_relu(conv, x[: SMALLEST_BATCH - 1]))
    for other in (
        nn.Conv2d(1, 2, 3, padding=1, bias=False),
        nn.Conv2d(1, 2, 3, padding=1, stride=2),
        nn.Conv2d(1, 2, 3, padding=2, dilation=2),
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(1, 2, 3, padding="same"),
        nn.Conv2d(1, 2, 4),
        nn.Conv2d(1, 2, (3, 5), padding=(1, 2)),
    ):
        y = conv_pool_relu(other, x)
        assert not is_fast(y)
        torch.testing.assert_close(y, textbook(other, x))
    half = copy.deepcopy(conv).bfloat16()
    assert not is_fast(conv_pool_relu(half, x.bfloat16()))
    with torch.autocast("cpu"):
        assert conv_pool_relu(conv, x).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        conv_pool_relu(conv, x.expand(-1, 3, -1, -1))


def test_compiled_and_traced(mnist):
    model, x = LeNet5(), mnist.test_images[:40].float() / 255
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x))


def test_operations_are_counted_as_torchs():
    """Those that the network needs, not those that are spent."""
    model, oracle, x = LeNet5(), Textbook(), torch.rand(40, 1, 28, 28)
    counts = []
    for network in (model, oracle):
        with FlopCounterMode(display=False) as counter:
            network(x).sum().backward()
        counts.append(counter.get_total_flops() / len(x))
    assert counts[0] == counts[1] == 2_263_920

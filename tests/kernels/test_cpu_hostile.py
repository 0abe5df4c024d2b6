"""What must not reach compiled code: each is told in words, or gives the dense result, and never a wrong number."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from nmbench.kernels import PackedWeight, linear, registry
from nmbench.kernels.conversion.reordered import reordered
from nmbench.kernels.cpu import build
from nmbench.kernels.problem import conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern, nm_mask

P, CPU = NMPattern(2, 4), torch.device("cpu")


@pytest.fixture(autouse=True)
def needs_a_compiler():
    if isinstance(found := build.library(P), str):
        pytest.skip(found)


def sparse(*shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return weight * nm_mask(weight, P)


@pytest.fixture(params=["cpu", "cpu-rows"])
def packed(request):
    weight = sparse(32, 64)
    problem = linear_problem((32, 64), (8, 64), P, torch.float32, CPU)
    return PackedWeight(weight, problem, registry.load(request.param))


def test_a_bias_of_another_size_or_device_is_told(packed):
    x = torch.randn(8, 64)
    for bias in (torch.zeros(3), torch.zeros(32, device="meta"), torch.zeros(1, 32)):
        with pytest.raises(RuntimeError, match=r"a bias of shape \(32,\) on a CPU is needed"):
            packed.product(x, bias)
        with pytest.raises(RuntimeError, match="a bias of shape"):
            packed.linear(x, bias)


def test_another_default_device_changes_nothing(packed):
    x = torch.randn(8, 64)
    right = packed.product(x, None)
    with torch.device("meta"):
        assert torch.equal(packed.product(x, None), right)
        assert torch.equal(copy.deepcopy(packed).product(x, None), right)


def test_tensors_without_memory_are_told(packed):
    released = torch.randn(8, 64)
    released.untyped_storage().resize_(0)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.randn(8, 64))
    for x in (released, fake):
        with pytest.raises(RuntimeError, match="memory of their own"):
            packed.product(x, None)


def test_expanded_and_empty_inputs_have_memory_enough(packed):
    row = torch.randn(1, 64)
    torch.testing.assert_close(packed.product(row.expand(8, 64), None), packed.product(row, None).expand(8, 32))
    assert packed.product(torch.empty(0, 64), None).shape == (0, 32)


def test_a_negated_view_is_read_as_what_it_says(packed):
    x = torch.randn(8, 64)
    torch.testing.assert_close(packed.product(torch._neg_view(x), None), -packed.product(x, None))


def test_no_gradient_is_lost(packed):
    x, bias, addend = torch.randn(8, 64), torch.randn(32), torch.randn(8, 32)
    right = packed.product(x, bias, addend, relu=True)
    for one in (bias, addend):
        one.requires_grad_()
    made = packed.product(x, bias, addend, relu=True)
    torch.testing.assert_close(made, right)
    made.sum().backward()
    assert torch.equal(addend.grad, (made > 0).float())
    assert torch.equal(bias.grad, (made > 0).float().sum(0))
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="there is no gradient"):
        packed.product(x, None)
    with torch.no_grad():
        assert torch.equal(packed.product(x, bias, addend, relu=True), right)


def test_what_is_added_decides_on_the_dtype(packed):
    x, addend = torch.randn(8, 64), torch.randn(8, 32)
    right = packed.product(x, None)
    assert torch.equal(packed.product(x, None, addend.double()), right + addend.double())
    assert torch.equal(packed.product(x, None, addend.to(torch.complex64)), right + addend.to(torch.complex64))


def test_an_image_smaller_than_the_kernel_is_told():
    weight = sparse(16, 16, 3, 3)
    problem = conv2d_problem((16, 16, 3, 3), (1, 16, 8, 8), P, torch.float32, CPU)
    packed = PackedWeight(weight, problem, registry.load("cpu"))
    with pytest.raises(RuntimeError, match="smaller than the kernel"):
        packed.product(torch.randn(1, 16, 2, 2), None)


def test_the_operators_check_as_plain_calls_do(packed):
    x = torch.randn(5, 16)
    operator = torch.ops.nmbench_cpu.linear.default
    name, held = next(iter(packed.tensors().items()))
    form, _, lanes = name.rpartition("_")
    about = [32, 64], [2, 4], [int(build.Form[form.upper()]), int(lanes)], []
    with pytest.raises(RuntimeError, match="does not fit"):
        operator(x, held, None, None, False, *about)


def test_a_weight_packed_for_other_vectors_is_not_read(monkeypatch):
    packed = PackedWeight(
        sparse(32, 64), linear_problem((32, 64), (8, 64), P, torch.float32, CPU), registry.load("cpu")
    )
    ((name, _),) = packed.tensors().items()
    monkeypatch.setenv(build.ISA_VARIABLE, "portable")
    if build.library(P).lanes == int(name.rpartition("_")[2]):
        pytest.skip("both have as many lanes")
    with pytest.raises(RuntimeError, match="convert the model again"):
        copy.copy(packed).tuned(()).linear(torch.randn(8, 64), None)


def test_a_level_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv(build.ISA_VARIABLE, "nonsense")
    assert "use avx2 or portable" in str(build.library(P))


def test_what_to_empty_leaves_is_no_weight(packed):
    right = packed.product(x := torch.randn(8, 64), None)
    packed.to_empty(device="cpu")
    assert torch.equal(packed.product(x, None), right)


@pytest.mark.parametrize("change", [{"positions": 0xFF}, {"values": torch.bool}, {"pattern": [1, 12, 7]}])
def test_a_state_dict_of_no_weight_changes_nothing(change):
    pattern = NMPattern(1, 12)
    weight = torch.randn(8, 24)
    weight *= nm_mask(weight, pattern)
    packed = PackedWeight(weight, linear_problem((8, 24), (4, 24), pattern, torch.float32, CPU), registry.load("cpu"))
    state = {key: value.clone() for key, value in packed.state_dict().items()}
    if "positions" in change:
        state["positions"].fill_(change["positions"])
    if "values" in change:
        state["values"] = state["values"].to(change["values"])
    if "pattern" in change:
        state["pattern"] = torch.tensor(change["pattern"])
    with pytest.raises(RuntimeError, match="Error"):
        packed.load_state_dict(state)
    assert torch.equal(packed.weight, weight)
    assert packed.problem.pattern == pattern


def test_a_reordered_layer_follows_its_weight_and_its_gradients():
    layer, x = reordered(nn.Linear(64, 32)), torch.randn(8, 64)
    with torch.no_grad():
        for _ in range(6):  # a new parameter may have the address of an old one
            layer(x)
            layer._parameters["weight"] = None
            layer.weight = nn.Parameter(torch.randn(32, 64))
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    layer.weight.requires_grad_(False)
    assert layer(x).requires_grad, "the bias is trained"
    layer.requires_grad_(False)
    assert layer(x, torch.randn(8, 32, requires_grad=True)).requires_grad


def test_the_function_says_the_same(packed):
    with pytest.raises((RuntimeError, ValueError), match="bias"):
        linear(torch.randn(8, 64), packed.weight, torch.zeros(3), pattern="2:4", backend=packed.backend.name)

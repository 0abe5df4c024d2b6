"""A pattern for each layer: its text, who gets which, and what is told of names and patterns that do not fit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nmbench.kernels import convert
from nmbench.sparsity import NMPattern, audit, cost, sparsify
from nmbench.sparsity.allocation import Allocation, AllocationError, ErdosRenyi, kernel_shares, read
from nmbench.sparsity.permutation import permute
from nmbench.sparsity.pruning import prune

IMAGES = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(3))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()).relu()


def network() -> nn.Sequential:
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8))
    return nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), Block(32, 32), Block(32, 64), head)


def trained(pattern, method="sr-ste", steps=3, **settings):
    model = network()
    handle = sparsify(model, pattern, method, **settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    handle.bind(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return model, handle, optimizer


def patterns(layers):
    return {line.name.removesuffix(".weight"): str(line.pattern) for line in layers if line.sparse}


# -- texts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"*.conv1": "dense", "*": "1:4"}, "*.conv1=dense,*=1:4"),
        (" a = 2:4 , b=1:4@kernel".strip(), "a=2:4,b=1:4@kernel"),
        ({"*": "2:4"}, "2:4"),
        ("*=2:4@input", "2:4"),
        ({"a": "2:4", "*": "dense"}, "a=2:4"),
        ("erk-1:16", "erk-1:16"),
        ({"*": "erk-1:16"}, "erk-1:16"),
        ({"ffn": "erk-2:8"}, "ffn=erk-2:8"),
    ],
)
def test_equal_allocations_have_one_text(given, text):
    assert str(read(given)) == text
    assert read(text) == read(given)
    assert hash(read(text)) == hash(read(given))


names = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._*?"), min_size=1, max_size=8)
shares = st.sampled_from(["dense", "1:4", "2:4@kernel", "erk-1:16", "4:4"])


@given(st.dictionaries(names.filter(lambda name: name != "*"), shares, min_size=1))
def test_a_text_reads_back_as_what_it_is_of(table):
    if all(share == "dense" for share in table.values()):
        with pytest.raises(ValueError, match="none of its rules makes a layer sparse"):
            read(table)
    else:
        made = read(table)
        assert isinstance(made, Allocation)
        assert read(str(made)) == made
        assert [name for name, _ in made.rules] == list(table)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("a=b", "pattern 'b': write N:M"),
        ("a=2:4,b", "'b' is no rule"),
        ("a=2:4,a=1:4", "names 'a' twice"),
        ("*=2:4,a=1:4", r"'a' comes after '\*'"),
        ("*=dense", "none of its rules"),
        ({}, "none of its rules"),
        ({"a,b": "2:4"}, "'a,b' is no name"),
        ({3: "2:4"}, "3 is no name"),
        ({"a": 2}, "pattern 2: write N:M"),
        ("erk-9:4", "N must lie between 1 and M"),
        ("erk-1:999", "at most 64"),
        ("erk", "write N:M"),
    ],
)
def test_what_is_no_allocation_is_told_in_one_line(given, says):
    with pytest.raises(ValueError, match=says) as caught:
        read(given)
    assert "\n" not in str(caught.value)


# -- Erdos-Renyi kernel ---------------------------------------------------------------------------------------------
layer_shapes = st.lists(
    st.tuples(st.integers(1, 300), st.integers(16, 300), st.sampled_from([1, 3, 7]), st.sampled_from([1, 3])),
    min_size=1,
    max_size=12,
)


@given(layer_shapes, st.sampled_from([4, 8, 16]), st.data())
def test_the_whole_keeps_what_is_asked_as_far_as_rounding_allows(shapes, m, data):
    rule = ErdosRenyi(NMPattern(data.draw(st.integers(1, m)), m))
    made = rule.patterns(shapes, [shape[1] for shape in shapes])
    sizes = [math.prod(shape) for shape in shapes]
    room = rule.total.density * sum(sizes) - sum(s * p.density for s, p in zip(sizes, made, strict=True))
    assert room >= -1e-6 * sum(sizes)
    for size, pattern, shape in zip(sizes, made, shapes, strict=True):
        assert pattern.m == m or (pattern.n == 1 and pattern.m in (2 * m, 4 * m) and pattern.m <= min(64, shape[1]))
        more = 1 / m if pattern.m == m else 1 / pattern.m  # to the next denser one
        assert pattern.n == pattern.m or size * more > room - 1e-6 * sum(sizes)


@given(layer_shapes, st.floats(0.05, 1.0))
def test_shares_add_up_and_keep_their_bounds(shapes, density):
    least = [0.02] * len(shapes)
    made = [1 - share for share in kernel_shares(shapes, 1 - density, least)]
    sizes = [math.prod(shape) for shape in shapes]
    assert sum(s * d for s, d in zip(sizes, made, strict=True)) == pytest.approx(density * sum(sizes), abs=len(sizes))
    assert all(0.02 - 1e-9 <= d <= 1 + 1e-9 for d in made)


def test_small_layers_keep_more():
    handle = sparsify(network(), "erk-1:16")
    own = patterns(handle.layers)
    assert own["3.2"] == "16:16"
    assert NMPattern.parse(own["1.conv1"]).density > NMPattern.parse(own["2.conv2"]).density
    assert {line.name: line.reason for line in handle.layers if not line.sparse} == {
        "0.weight": "its grouped dimension is 4, below M = 16"
    }


# -- through the core -----------------------------------------------------------------------------------------------
MIXED = {"0": "dense", "*.conv1": "1:4", "2.*": "1:8", "*": "2:4"}
WANTED = {"1.conv1": "1:4", "1.conv2": "2:4", "2.conv1": "1:4", "2.conv2": "1:8", "3.2": "2:4"}


def test_the_first_name_that_fits_counts_and_all_that_follows_reads_it():
    model, handle, _ = trained(MIXED)
    assert patterns(handle.layers) == WANTED
    handle.finalize()
    report = audit(model, handle.pattern, handle.layers)
    assert report.ok
    found = {line.name.removesuffix(".weight"): line.density for line in report.sparse}
    assert found == {name: NMPattern.parse(text).density for name, text in WANTED.items()}
    assert audit(model, MIXED) == report
    assert str(report.pattern) == "0=dense,*.conv1=1:4,2.*=1:8,*=2:4"
    stored = {line.name: line for line in cost(model, (IMAGES,), handle.pattern, handle.layers).layers}
    assert stored["0.weight"].bytes_compressed == stored["0.weight"].bytes
    assert stored["1.conv1.weight"].bytes_compressed == 32 * 32 * 9 // 4 * 4 + 32 * 32 * 9 // 4 * 2 // 8
    assert stored["2.conv2.weight"].bytes_compressed == 64 * 64 * 9 // 8 * 4 + 64 * 64 * 9 // 8 * 3 // 8


def test_the_audit_finds_a_layer_that_keeps_to_another_than_its_own():
    model, handle, _ = trained({"1.conv1": "2:4", "*": "1:4"})
    handle.finalize()
    wrong = audit(model, {"1.conv1": "1:4", "*": "1:4"})
    assert {line.name for line in wrong.layers if line.violations} == {"1.conv1.weight"}


def test_a_whole_layer_of_an_allocation_is_stored_dense():
    model, handle, _ = trained("erk-1:16", steps=1)
    handle.finalize()
    stored = {line.name: line for line in cost(model, (IMAGES,), handle.pattern, handle.layers).layers}
    assert stored["3.2.weight"].bytes_compressed == stored["3.2.weight"].bytes


def test_resumed_it_goes_on_and_another_allocation_is_refused():
    whole, _, _ = trained(MIXED, steps=4)
    model, handle, optimizer = trained(MIXED, steps=2)
    fresh, again, other = trained(MIXED, steps=0)
    fresh.load_state_dict(model.state_dict())
    again.load_state_dict(handle.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for _ in range(2):
        other.zero_grad()
        fresh(IMAGES).square().mean().backward()
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), whole.parameters(), strict=True))
    _, stranger, _ = trained("erk-1:16", steps=0)
    with pytest.raises(ValueError, match="another pattern"):
        stranger.load_state_dict(handle.state_dict())


def test_n_of_n_trains_as_dense_does():
    dense, _, _ = trained({"*.conv1": "4:4", "*": "8:8"})
    other, _, _ = trained("2:4", "dense")
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), other.parameters(), strict=True))


def test_pruners_and_permutation_keep_each_layer_to_its_own():
    model = network()
    report = prune(model, MIXED, "wanda", [IMAGES], layers=["*"], permute=True)
    assert report.audit.ok
    assert {layer.name.removesuffix(".weight"): layer.density for layer in report.layers if layer.pruned} == {
        name: NMPattern.parse(text).density for name, text in WANTED.items()
    }
    model = network()
    before = model(IMAGES)
    assert permute(model, MIXED, IMAGES, ["*"]).permuted
    torch.testing.assert_close(model(IMAGES), before, rtol=1e-4, atol=1e-5)


def test_conversion_holds_each_weight_against_its_own():
    model, handle, _ = trained(MIXED)
    handle.finalize()
    _, report = convert(model.eval(), IMAGES, pattern=MIXED, budget_s=0.01, cache=False)
    assert {row.layers[0]: row.pattern for row in report.rows if row.pattern} == WANTED
    with pytest.raises(ValueError, match="no layer of the model keeps"):
        convert(network(), IMAGES, pattern=MIXED)


# -- what does not fit ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ({"conv9": "2:4"}, "'conv9' names no weight of this model; did you mean '.*conv"),
        ({"*.conv*": "2:4", "*.conv1": "1:4"}, r"the layers of '\*.conv1' are taken by names before it"),
        ({"0": "1:8", "*": "2:4"}, "no layer of '0' takes 1:8: 0.weight: its grouped dimension is 4, below M = 8"),
        ({"0": "erk-1:8"}, "no layer of '0' takes erk-1:8: 0.weight: its grouped dimension is 4"),
        ({"ffn": "2:4"}, "no feed-forward layer of a transformer"),
    ],
)
def test_an_allocation_that_does_not_fit_the_model_is_told(pattern, says):
    model = network()
    with pytest.raises(AllocationError, match=says) as caught:
        sparsify(model, pattern)
    assert "\n" not in str(caught.value)
    assert sparsify(model, "2:4")  # it is as it was


def test_a_layer_that_was_left_out_takes_no_pattern():
    with pytest.raises(AllocationError, match="left out by the choice of layers"):
        sparsify(network(), {"0": "2:4", "*": "1:4"}, layers=["1.*"])
    handle = sparsify(network(), {"0": "dense", "*": "1:4"}, layers=["1.*"])
    assert patterns(handle.layers) == {"1.conv1": "1:4", "1.conv2": "1:4"}


@pytest.mark.parametrize(
    ("method", "says"),
    [("domino", "finds their patterns itself"), ("proxsparse", "one of 2:4"), ("maskllm", "combination.*1.conv1")],
)
def test_a_method_that_cannot_do_it_refuses(method, says):
    with pytest.raises(ValueError, match=f"method '{method}' cannot do .*{says}") as caught:
        sparsify(network(), {"*.conv1": "4:16", "*": "2:4"}, method, steps=10)
    assert "\n" not in str(caught.value)


def test_a_state_dict_says_not_which_layer_is_which():
    model, handle, _ = trained(MIXED, steps=1)
    handle.finalize()
    assert audit(model.state_dict(), handle.pattern, handle.layers).ok
    with pytest.raises(ValueError, match=r"needs layers=handle\.layers"):
        audit(model.state_dict(), MIXED)

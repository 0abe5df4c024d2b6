"""Channel permutation: the function stays, what is coupled moves together, and what cannot move is named."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pruning_toys import Images, Text, images, made, tokens
from torch import Tensor, nn

from nmbench.sparsity import NMPattern, sparsify
from nmbench.sparsity.permutation import apply as applying
from nmbench.sparsity.permutation import find, kept, permute
from nmbench.sparsity.pruning import prune


@pytest.fixture
def shuffled(monkeypatch):
    """Any order must leave the function as it is, so a random one is taken."""
    monkeypatch.setattr(applying, "find", lambda score, pattern: torch.randperm(score.shape[1]))


@given(
    n=st.integers(1, 3),
    m=st.sampled_from([3, 4, 8]),
    size=st.integers(2, 23),
    rows=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_an_order_keeps_at_least_what_the_given_one_keeps(n, m, size, rows, seed):
    score, pattern = torch.rand(rows, size, generator=torch.Generator().manual_seed(seed)), NMPattern(n, m)
    order = find(score, pattern)
    assert sorted(order.tolist()) == list(range(size))
    assert kept(score[:, order], pattern) >= kept(score, pattern)


def test_a_large_matrix_gains_too():
    score, pattern = torch.rand(16, 300, generator=torch.Generator().manual_seed(0)), NMPattern(1, 4)
    assert kept(score[:, find(score, pattern)], pattern) > 1.02 * kept(score, pattern)


class Mixed(nn.Module):
    """Concatenation, depthwise and grouped convolutions, group normalisation, a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 12, 3)
        self.deep = nn.Conv2d(20, 40, 3, groups=20)
        self.grouped, self.norm = nn.Conv2d(8, 16, 1, groups=2), nn.GroupNorm(4, 16)
        self.joined, self.after = nn.Conv2d(40, 8, 1), nn.Conv2d(16, 8, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.hidden, self.head = nn.Linear(8 * 4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.deep(torch.cat([self.one(x), self.two(x)], 1)))
        y = self.after(self.norm(self.grouped(self.joined(y)))) * self.scale
        return self.head(self.hidden(nn.functional.adaptive_avg_pool2d(y, 2).flatten(1)).tanh())


@pytest.mark.parametrize(("network", "data"), [(Images, images), (Mixed, images), (Text, tokens)])
def test_any_order_leaves_the_function_as_it_is(network, data, shuffled):
    model, x = made(network), data()[0]
    before, weights = model(x), {name: p.clone() for name, p in model.named_parameters()}
    report = permute(model, "2:4", x)
    assert report.permuted
    assert any(not torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert float((model(x) - before).detach().abs().max()) < 1e-5 * float(before.detach().abs().max())


def test_coupled_channels_move_and_the_rest_is_named():
    report = permute(made(Images), "2:4", images()[0])
    assert {"blocks.0.first.weight", "blocks.0.second.weight", "middle.weight"} <= report.permuted.keys()
    assert all(after > before for before, after in report.permuted.values())
    text = permute(made(Text), "2:4", tokens()[0])
    assert "encoder.layers.0.linear2.weight" in text.permuted
    assert text.left["encoder.layers.0.linear1.weight"] == "its input comes from outside the graph"
    assert text.left["encoder.layers.0.self_attn.out_proj.weight"] == (
        "what it reads is made inside of the module that it belongs to"
    )
    assert "left: its input comes" in str(text)


class Stubborn(nn.Module):
    """Its hidden channels are read by position."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = self.second(torch.cumsum(x, 1))
        return self.third(x.tanh())


def test_an_operation_that_the_graph_does_not_allow_is_named_by_layer_and_the_rest_goes_on():
    torch.manual_seed(0)
    report = permute(Stubborn(), "2:4", torch.randn(5, 8), layers=["first", "second", "third"])
    assert report.left == {
        "first.weight": "its input comes from outside the graph",
        "second.weight": "cumsum may change the order of its channels",
    }
    assert list(report.permuted) == ["third.weight"]


class Secretive(nn.Module):
    """It makes a number of Python's, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x.relu() * math.tanh(float(x.detach().sum())))


def test_what_cannot_be_traced_is_left():
    model = made(lambda: nn.Sequential(Secretive()))
    before = [p.clone() for p in model.parameters()]
    report = permute(model, "2:4", torch.randn(5, 8), layers=lambda name, module: True)
    assert set(report.left.values()) == {"torch.fx cannot trace what it is part of"}
    assert all(map(torch.equal, before, model.parameters()))


def test_an_order_that_would_change_the_output_is_taken_back(monkeypatch):
    monkeypatch.setattr(applying, "_difference", lambda before, after: 0.5)
    model = made(Images)
    before = [p.clone() for p in model.parameters()]
    report = permute(model, "2:4", images()[0])
    assert not report.permuted
    assert report.left["middle.weight"] == "the model's output would change by 0.5 of its largest number"
    assert all(map(torch.equal, before, model.parameters()))


class Chaotic(nn.Module):
    """What is rounded grows by each of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(9):
            x = torch.sin(6 * self.down(torch.relu(self.up(x))))
        return x


class Single(Chaotic):
    """Asks for float32 whatever it runs in, as flow networks do for their coordinates."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.sin(x.to(torch.float32)) + x.float())


@pytest.mark.parametrize("kind", [Chaotic, Single])
def test_rounding_that_grows_is_told_from_another_function(monkeypatch, kind):
    model, x = made(kind), torch.randn(30, 8)
    monkeypatch.setattr(applying, "_tolerance", lambda output: 1e-9)
    report = permute(model, "2:4", x, layers=["down"])
    assert list(report.permuted) == ["down.weight"]
    assert report.difference < 1e-9
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.get_default_dtype() is torch.float32


def test_shared_layers_move_once():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.up, self.down = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 16)
            self.head = nn.Linear(16, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embedding(ids)
            for _ in range(2):
                x = x + self.down(self.up(x).relu())
            return self.head(x)

    model, ids = made(Shared), tokens()[0]
    before = model(ids)
    report = permute(model, "2:4", ids, layers=["up", "down"])
    assert report.permuted.keys() == {"up.weight", "down.weight"}
    torch.testing.assert_close(model(ids), before, rtol=1e-4, atol=1e-5)


def test_more_is_kept_by_one_shot_and_by_any_pruner():
    plain, permuted = made(Images), made(Images)
    permute(permuted, "1:4", images()[0])
    kept_by = []
    for model in (plain, permuted):
        handle = sparsify(model, "1:4", "one-shot")
        handle.finalize()
        kept_by.append(sum(float(p.detach().abs().sum()) for p in model.parameters()))
    assert kept_by[1] > kept_by[0]
    reports = [prune(made(Images), "1:4", "magnitude", images(), permute=on) for on in (False, True)]
    assert reports[0].permutation is None
    assert reports[1].permutation is not None
    assert reports[1].audit.ok


def test_while_the_model_is_attached_the_parameters_move():
    model, x = made(Images), images()[0]
    before = model(x)
    handle = sparsify(model, "2:4", "asp")
    assert permute(model, "2:4", x).permuted
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    handle.start_phase(1)
    handle.finalize()


def test_the_kernel_axis_has_no_channels_to_permute():
    with pytest.raises(ValueError, match="2:4@kernel: channels are permuted for patterns along the input only"):
        permute(made(Images), "2:4@kernel", images()[0])


class Branching(nn.Module):
    """A branch on shapes, and a part that no trace can follow, before a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.secret, self.up, self.down = Secretive(), nn.Linear(3, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2 and x.shape[-1] > 1:
            return self.down(self.up(self.secret(x)).tanh())
        return self.down(x)


def test_a_branch_is_followed_and_a_part_that_cannot_be_traced_is_gone_around():
    model, x = made(Branching), torch.randn(5, 8)
    before = model(x)
    report = permute(model, "2:4", x, layers=["down", "secret.*"])
    assert list(report.permuted) == ["down.weight"]
    assert report.left["secret.second.weight"] == "torch.fx cannot trace what it is part of"
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-6)

"""`convert`: the fastest right backend runs a layer, the model stays itself, and the report says what ran."""

import copy
import json

import pytest
import torch
from convert_toys import Compressed, converted, convnet, finalised, mlp, priced
from fake_libraries import FakeCuSparseLt, FakeCutlass, fakes
from torch import nn

from nmbench.kernels import SparseConv2d, SparseLinear, convert
from nmbench.sparsity import sparsify

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_faster_backend_runs_and_numbers_stay():
    model, x = finalised(mlp()), torch.randn(5, 24)
    fast, report = converted(model, x)
    assert [type(m) for m in fast] == [SparseLinear, nn.ReLU, SparseLinear]
    torch.testing.assert_close(fast(x), model(x))
    assert [(r.layers, r.winner, r.rows, r.pattern, r.ratio) for r in report.rows] == [
        (("0",), "compressed", {5: 1}, "2:4", 50.0),
        (("2",), "compressed", {5: 1}, "2:4", 50.0),
    ]
    assert report.summary == "2 of 2 weights run sparse (compressed 2) on cpu"


def test_what_the_options_say():
    model, x = finalised(mlp()).train(), torch.randn(5, 24)
    first, state = model[0], torch.get_rng_state()
    fast, report = converted(model, {"input": x}, layers=["2"])
    assert [type(m) for m in fast] == [nn.Linear, nn.ReLU, SparseLinear]
    assert report.rows[0].reason == "left out by the choice of layers"
    assert fast.training
    assert fast[2].training
    assert model[0] is first, "the given model is left alone"
    assert torch.equal(torch.get_rng_state(), state)
    assert converted(model, x, inplace=True)[0] is model
    assert type(model[0]) is SparseLinear


def test_convolutions_in_both_memory_formats():
    for last in (False, True):
        form = torch.channels_last if last else torch.contiguous_format
        model, x = finalised(convnet()).to(memory_format=form), torch.randn(2, 8, 6, 6).to(memory_format=form)
        fast, report = converted(model, x)
        assert type(fast[0]) is SparseConv2d
        assert report.rows[0].rows == {72: 1}
        torch.testing.assert_close(fast(x), model(x))
        assert fast[0](x).stride() == model[0](x).stride()


@pytest.mark.parametrize("us", [48.6, 50.0, 90.0])
def test_dense_wins_unless_sparse_is_clearly_faster(us):
    model, x = finalised(mlp()), torch.randn(5, 24)
    with priced(compressed=us):
        same, report = convert(model, x, backends=[Compressed()])
    assert type(same[0]) is nn.Linear
    assert report.rows[0].reason == f"slower: compressed would take {us / 50:.2f} of the dense time"
    assert (report.rows[0].winner, report.rows[0].sparse_us) == ("dense", us)


def test_the_fastest_of_several_and_its_settings():
    model, x = finalised(nn.Sequential(nn.Linear(128, 64)), dtype=torch.bfloat16), torch.randn(8, 128).bfloat16()
    searched = "cusparselt {'alg_id': 3, 'split_k': 1, 'split_k_mode': -1}"
    with fakes(), priced(cutlass=20.0, cusparselt=30.0, **{searched: 12.0}):
        fast, report = convert(model, x, backends=[FakeCutlass(), FakeCuSparseLt(), Compressed()])
        row = report.rows[0]
        assert row.candidates == {"cutlass": 20.0, "cusparselt": 12.0, "compressed": 50.0}
        assert (row.winner, row.settings) == ("cusparselt", {"alg_id": 3, "split_k": 1, "split_k_mode": -1})
        torch.testing.assert_close(fast(x).float(), model(x).float(), rtol=2e-2, atol=2e-2)


class Wrong(Compressed):
    """Right but for one number."""

    name = "wrong"

    def linear(self, x, packed, bias, problem):
        y = super().linear(x, packed, bias, problem).clone()
        y[0, 0] += 0.1
        return y


class Failing(Compressed):
    name = "failing"

    def linear(self, x, packed, bias, problem):
        raise RuntimeError("no kernel image\nis available")


@pytest.mark.parametrize(
    ("backend", "words"), [(Wrong(), "wrong numbers: off by 0.1"), (Failing(), "failed: RuntimeError: no kernel image")]
)
def test_a_backend_that_is_wrong_or_fails_may_not_win(backend, words):
    model, x = finalised(mlp()), torch.randn(5, 24)
    with priced(wrong=1.0, failing=1.0, compressed=10.0):
        alone, report = convert(model, x, backends=[backend])
        assert words in report.rows[0].reason
        assert type(alone[0]) is nn.Linear
        _, report = convert(model, x, backends=[backend, Compressed()])
    assert report.rows[0].winner == "compressed"
    assert words in report.rows[0].candidates[backend.name]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return self.inner(self.inner(x[:2]).sum(0, keepdim=True)) + self.inner(x).sum()


def test_several_shapes_are_decided_by_their_total():
    model, x = finalised(Twice()), torch.randn(6, 8)
    with priced(compressed=10.0) as seen:
        fast, report = convert(model, x, backends=[Compressed()])
    assert report.rows[0].rows == {2: 1, 1: 1, 6: 1}
    assert (report.rows[0].dense_us, report.rows[0].sparse_us) == (150.0, 30.0)
    assert len(seen) == 3
    torch.testing.assert_close(fast(x), model(x))


def test_equal_layers_are_timed_once_and_a_second_time_not_at_all():
    model = finalised(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)))
    with priced(compressed=10.0) as seen:
        convert(model, torch.randn(3, 16), backends=[Compressed()])
        assert len(seen) == 1
        _, report = convert(model, torch.randn(3, 16), backends=[Compressed()])
        assert len(seen) == 1
        assert [row.cached for row in report.rows] == [True, True]
        convert(model, torch.randn(4, 16), backends=[Compressed()])
        convert(model, torch.randn(3, 16), backends=[Compressed()], cache=False)
        convert(model, torch.randn(3, 16), backends=[Compressed()], launch="graph")
    assert len(seen) == 4


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    model = finalised(model)
    x = torch.randn(3, 8)
    fast, report = converted(model, x)
    assert report.rows[0].layers == ("0", "1")
    assert report.rows[0].rows == {3: 2}
    assert fast[0].packed is fast[1].packed
    assert fast[0].bias is not None
    torch.testing.assert_close(fast(x), model(x))
    again = copy.deepcopy(fast)
    assert again[0].packed is again[1].packed is not fast[0].packed


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"padding": "same", "kernel_size": 4}, "asymmetric"),
        ({"padding": 1, "kernel_size": 3, "padding_mode": "reflect"}, "reflect"),
        ({"padding": "valid", "kernel_size": (3, 1), "stride": (1, 2), "dilation": (2, 1), "groups": 2}, "valid"),
    ],
)
def test_odd_convolutions(options, form):
    model, x = finalised(nn.Sequential(nn.Conv2d(8, 12, **options))), torch.randn(2, 8, 9, 9)
    fast, _ = converted(model, x)
    assert type(fast[0]) is SparseConv2d
    torch.testing.assert_close(fast(x), model(x))
    torch.testing.assert_close(fast(x[0]), model(x[0]))


def test_patterns_are_read_off_the_weights_or_given():
    model = mlp()
    sparsify(model, "1:4", "one-shot", layers=["0"]).finalize()
    sparsify(model, "4:8", "one-shot", layers=["2"]).finalize()
    x = torch.randn(5, 24)
    _, report = converted(model, x)
    assert [row.pattern for row in report.rows] == ["1:4", "4:8"]
    _, report = converted(model, x, pattern="2:4")
    assert report.rows[0].pattern == "2:4"
    assert report.rows[1].reason.startswith("violates the pattern: the group of inputs")
    assert report.rows[1].winner == "dense"


def test_the_report_as_text_markdown_and_json():
    _, report = converted(finalised(convnet()), torch.randn(2, 8, 6, 6))
    told = json.loads(json.dumps(report.to_dict()))
    assert told["rows"][0]["winner"] == "compressed"
    assert told["rows"][0]["rows"] == {"72": 1}
    assert told["machine"]["device"] == "cpu"
    rows = [" ".join(line.split()) for line in report.to_markdown().splitlines()]
    assert "| 0 | 16 x 8 x 3 x 3 | 72 | 2:4 | compressed | 50.0 | 1.0 | 50.00 | |" in rows
    lines = report.table().splitlines()
    assert str(report) == report.table()
    assert " ".join(lines[0].split()) == "Layer Shape Rows Pattern Runs by Dense us Sparse us Ratio"
    assert lines[-1] == report.summary


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_on_a_cpu_it_says_so_and_changes_nothing():
    model, x = finalised(convnet()), torch.randn(2, 8, 6, 6)
    same, report = convert(model, x)
    assert torch.equal(same(x), model(x))
    assert {row.winner for row in report.rows} == {"dense"}
    assert report.notes == (
        "no sparse backend applies on this CPU: every layer stays dense, and results are identical",
    )
    assert {row.reason for row in report.rows} == {"needs a GPU"}


def test_a_time_limit_leaves_the_smallest_layers_dense(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("nmbench.kernels.conversion.choose.time.monotonic", lambda: float(next(clock)))
    model = finalised(nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 64), nn.Linear(64, 8)), layers=["0", "1", "2"])
    with priced(compressed=1.0):
        _, report = convert(model, torch.randn(4, 16), backends=[Compressed()], limit_s=2.5)
    assert [row.winner for row in report.rows] == ["dense", "compressed", "compressed"]
    assert report.rows[0].reason == "not tried: the time limit was reached before"
    assert [row.shape[0] for row in report.rows] == [8, 64, 8], "in the model's order"
    with priced(compressed=1.0):
        _, report = convert(model, torch.randn(4, 16), backends=[Compressed()], limit_s=-1.0)
    assert [row.winner for row in report.rows] == ["dense", "compressed", "compressed"], "what is kept costs no time"

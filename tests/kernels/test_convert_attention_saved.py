"""Converted attention in files, copies, other dtypes, under autocast."""

import copy
import pickle

import pytest
import torch
from attention_toys import Calling, attention
from convert_toys import Compressed, assert_same, converted, finalised, priced
from torch import nn

from nmbench.kernels import SparseLinear, apply_choices, convert, load_converted, registry, save_converted
from nmbench.kernels.conversion.layers import SparseLayer

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def _installed(monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: Compressed())


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_it_is_saved_loaded_copied_and_chosen_again(tmp_path, inputs):
    model = finalised(Calling(attention(batch_first=True)))
    x = tuple(torch.randn(2, 6, 16) for _ in range(inputs))
    fast, report = converted(model, x)
    save_converted(tmp_path / "fast.safetensors", fast)
    fresh = Calling(attention(batch_first=True)).eval()
    others = [
        load_converted(tmp_path / "fast.safetensors", fresh),
        apply_choices(model, report.choices),
        copy.deepcopy(fast),
        pickle.loads(pickle.dumps(fast)),
    ]
    for other in others:
        assert sum(isinstance(m, SparseLayer) for m in other.modules()) == len(report.sparse)
        assert_same(fast, other, *x)
    fast.load_state_dict(model.state_dict())
    assert_same(model, fast, *x)


@pytest.mark.usefixtures("_installed")
def test_one_of_whose_projections_only_some_run_sparse(tmp_path):
    model, x = Calling(attention(batch_first=True)), (torch.randn(2, 6, 16), torch.randn(2, 5, 16))
    finalised(model)
    with priced(compressed=1.0) as seen:
        fast, report = convert(model, x, backends=[OnlyWide()])
    assert len(seen) == 2  # one projection, and the attention as a whole
    assert [row.layers for row in report.sparse] == [("attn.kv_proj",)]
    assert type(fast.attn.q_proj) is nn.Linear
    assert fast.attn.q_proj.weight.untyped_storage().nbytes() == 16 * 16 * 4  # the rest of the weight is free to go
    save_converted(tmp_path / "fast.safetensors", fast)
    for other in (load_converted(tmp_path / "fast.safetensors", model), apply_choices(model, report.choices)):
        assert isinstance(other.attn.kv_proj, SparseLinear)
        assert_same(model, other, *x)


class OnlyWide(Compressed):
    def refusal(self, problem):
        return "too narrow" if problem.weight[0] < 32 else super().refusal(problem)


@pytest.mark.usefixtures("_installed")
def test_one_with_two_names_of_which_a_part_is_sparse(tmp_path):
    class Twice(Calling):
        def __init__(self, inner):
            super().__init__(inner)
            self.a = inner

    model, x = Twice(attention(batch_first=True)), [torch.randn(2, length, 16) for length in (6, 5, 5)]
    finalised(model)
    with priced(compressed=1.0):
        fast, _ = convert(model, tuple(x), backends=[OnlyMany()])
    assert [type(m) for m in (fast.a.q_proj, fast.a.k_proj, fast.a.v_proj)] == [SparseLinear, nn.Linear, nn.Linear]
    save_converted(tmp_path / "fast.safetensors", fast)
    fresh = load_converted(tmp_path / "fast.safetensors", Twice(attention(batch_first=True)))
    assert_same(model, fresh, *x)


class OnlyMany(Compressed):
    def refusal(self, problem):
        return "too few rows" if problem.rows < 12 else super().refusal(problem)


class Cast(nn.Module):
    """Runs what is inside it under autocast, or without."""

    def __init__(self, inner, enabled=True):
        super().__init__()
        self.inner, self.enabled = inner, enabled

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.enabled):
            return self.inner(x)


def test_what_runs_without_autocast_is_judged_without():
    torch.manual_seed(0)
    layer = finalised(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.float16):
        _, report = converted(Cast(layer, enabled=False), torch.randn(2, 6, 16).bfloat16())
    assert [row.winner for row in report.rows] == ["compressed"] * 4

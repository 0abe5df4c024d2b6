"""Modules judged whole, because sparse layers end a fused way of theirs."""

import pytest
import torch
from attention_toys import Calling, attention
from convert_toys import Compressed, assert_same, converted, finalised, priced
from torch import nn

from nmbench.kernels import convert, timing
from nmbench.kernels.conversion.bypass.attention import LayeredAttention
from nmbench.kernels.conversion.layers import SparseLayer
from nmbench.kernels.timing import Timing

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
]


def untouched(model) -> bool:
    return not any(isinstance(m, (SparseLayer, LayeredAttention)) for m in model.modules())


def test_one_that_is_slower_with_sparse_projections_stays_as_it_was():
    model, x = finalised(nn.Sequential(nn.Linear(16, 16), Calling(attention(batch_first=True)))), torch.randn(2, 6, 16)
    fast, report = converted(model, x, us={"dense": 50.0, "sparse": 51.0})
    assert [row.winner for row in report.rows] == ["compressed", "dense", "dense"]
    assert {row.reason for row in report.rows[1:]} == {"1.attn: slower as a whole: 1.02 of the time that it takes now"}
    assert all(row.dense_us and row.sparse_us and not row.settings for row in report.rows[1:])
    assert type(fast[1].attn) is nn.MultiheadAttention
    assert type(fast[1].attn.out_proj) is type(model[1].attn.out_proj)
    with torch.no_grad():
        assert torch.equal(fast(x)[0], model(x)[0])


def test_the_fused_encoder_layer_is_held_against_its_sparse_layers(tmp_path, monkeypatch):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model, x = finalised(nn.TransformerEncoder(layer, 2)), torch.randn(2, 6, 16)
    fast, report = converted(model, x, us={"dense": 50.0, "sparse": 60.0})
    assert untouched(fast)
    assert [row.reason.split(":")[0] for row in report.rows] == ["layers.0"] * 4 + ["layers.1"] * 4
    assert fast.layers[0].activation_relu_or_gelu == 1
    assert fast.use_nested_tensor
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "another"))
    fast, report = converted(model, x)
    assert len(report.sparse) == 8
    assert (fast.layers[0].activation_relu_or_gelu, fast.use_nested_tensor) == (0, False)
    assert (model.layers[0].activation_relu_or_gelu, model.use_nested_tensor) == (1, True)


def test_an_encoder_that_drops_its_padding_is_judged_as_one_and_keeps_its_zeros():
    torch.manual_seed(0)
    model = finalised(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2))
    x, padding = torch.randn(2, 6, 16), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    fast, report = converted(model, {"src": x, "src_key_padding_mask": padding})
    assert untouched(fast)
    assert all(row.reason.startswith("TransformerEncoder: its result differs") for row in report.rows)
    with torch.no_grad():
        assert torch.equal(fast(x, src_key_padding_mask=padding), model(x, src_key_padding_mask=padding))
    model.use_nested_tensor = False  # what the documentation says frees the layers
    fast, report = converted(model, {"src": x, "src_key_padding_mask": padding})
    assert len(report.sparse) == 8
    assert_same(model, fast, x, src_key_padding_mask=padding)


class Switched(nn.Module):
    """Chooses as fairseq's attention does; `other` is what calling its layer adds to the result."""

    def __init__(self, other: float = 0.0):
        super().__init__()
        self.proj, self.other, self.skip_embed_dim_check = nn.Linear(16, 16), other, False

    def forward(self, x):
        if self.skip_embed_dim_check:
            return self.proj(x) + self.other
        return nn.functional.linear(x, self.proj.weight, self.proj.bias)


@pytest.mark.parametrize(
    ("other", "us", "why"),
    [
        (0.0, {"dense": 50.0, "sparse": 50.5}, "0: slower as a whole: 1.01"),
        (0.5, {}, "0: its result differs where it calls its layers: by"),
    ],
)
def test_an_attention_of_fairseqs_kind_is_judged_too(other, us, why):
    torch.manual_seed(0)
    model, x = finalised(nn.Sequential(Switched(other), nn.Linear(16, 16))), torch.randn(5, 16)
    fast, report = converted(model, x, us)
    assert report.rows[0].reason.startswith(why)
    assert [row.winner for row in report.rows] == ["dense", "compressed"]
    assert not fast[0].skip_embed_dim_check


def test_each_of_some_that_look_alike_is_compared():
    torch.manual_seed(0)
    model, x = finalised(nn.Sequential(Switched(0.0), Switched(0.0), Switched(0.5))), torch.randn(5, 16)
    model[1].register_buffer("late", torch.zeros(1))
    model[2].other = torch.tensor(0.5)  # of which a key knows nothing
    with priced(compressed=1.0) as seen:
        fast, report = convert(model, x, backends=[Compressed()])
    assert [row.winner for row in report.rows] == ["compressed", "compressed", "dense"]
    assert [set(one) for one in seen].count({"dense", "sparse"}) == 2
    assert_same(model, fast, x)


def test_padding_makes_the_fused_way_another_one():
    torch.manual_seed(0)
    model = finalised(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2))
    x, padding = torch.randn(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)
    whole = {"src": x, "src_key_padding_mask": padding}
    assert len(converted(model, whole)[1].sparse) == 8
    padding[1, 4:] = True
    assert untouched(converted(model, whole)[0])


class Counting(Switched):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.steps += 1
        return super().forward(x)


class Once(Counting):
    def forward(self, x):
        if self.steps and self.skip_embed_dim_check:
            raise RuntimeError("only once\nand never again")
        return super().forward(x)


class Nothing(Switched):
    def forward(self, x):
        return super().forward(x) * float("nan")


def test_judging_leaves_what_a_pass_counts():
    fast, report = converted(finalised(nn.Sequential(Counting())), torch.randn(5, 16))
    assert len(report.sparse) == 1
    assert float(fast[0].steps) == 1, "of the pass over the example inputs"


@pytest.mark.parametrize(
    ("unit", "why"),
    [
        (Once, "0: could not be run by itself with sparse layers: RuntimeError: only once"),
        (Nothing, "0: could not be compared: its result is not finite"),
    ],
)
def test_one_that_cannot_be_judged_stays_as_it_was(unit, why):
    fast, report = converted(finalised(nn.Sequential(unit(), nn.Linear(16, 16))), torch.randn(5, 16))
    assert report.rows[0].reason == why
    assert not fast[0].skip_embed_dim_check


def test_little_memory_leaves_one_as_it_was(monkeypatch):
    def short(candidates, device, **_):
        if "sparse" in candidates:
            raise torch.OutOfMemoryError
        return {name: Timing(50.0 if name.startswith("dense") else 1.0, 0.0, 0.0, 1, "invented") for name in candidates}

    monkeypatch.setattr(timing, "compare", short)
    fast, report = convert(finalised(Calling(attention())), torch.randn(6, 2, 16), backends=[Compressed()])
    assert untouched(fast)
    assert {row.reason for row in report.rows} == {"attn: there was not enough memory to compare it as a whole"}

"""Attention whose projections run as layers; modules judged whole, because sparse layers end a fused way of theirs."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from convert_toys import Compressed, finalised, priced
from torch import nn

from nmbench.kernels import SparseLinear, apply_choices, convert, load_converted, save_converted, timing
from nmbench.kernels.convert.bypass.attention import LayeredAttention, form, layers, taken
from nmbench.kernels.convert.bypass.whole import replica
from nmbench.kernels.convert.conversion import rebuild
from nmbench.kernels.convert.layers import SparseLayer

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def _installed(monkeypatch):
    monkeypatch.setattr(rebuild.registry, "load", lambda name: Compressed())


def converted(model, inputs, **us):
    with priced(**{"compressed": 1.0, **us}):
        return convert(model, inputs, backends=[Compressed()])


def attention(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(16, 4, **options).eval()
    for parameter in made.parameters():  # biases are zero in a fresh one
        nn.init.normal_(parameter, std=0.3)
    return made


class Calling(nn.Module):
    """Calls its attention with inputs of its own choice."""

    def __init__(self, inner: nn.MultiheadAttention, **kwargs):
        super().__init__()
        self.attn, self.kwargs = inner, kwargs

    def forward(self, query, *others):
        key, value = (*others, *others)[:2] if others else (query, query)
        return self.attn(query, key, value, **self.kwargs)


def same(got, right):
    assert (got is None) == (right is None)
    if right is not None:
        assert got.shape == right.shape
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-5)


# -- the attention itself ---------------------------------------------------------------------------------------------
MASKS = {
    "none": {},
    "bool": {"attn_mask": torch.ones(6, 6, dtype=torch.bool).triu(1)},
    "float": {"attn_mask": torch.linspace(-2, 2, 36).view(6, 6)},
    "by head": {"attn_mask": torch.linspace(-2, 2, 12 * 36).view(12, 6, 6)},
    "padding": {"key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] * 5 + [True]])},
    "both": {
        "attn_mask": torch.ones(6, 6, dtype=torch.bool).triu(1),
        "key_padding_mask": torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] * 5 + [True]]),
    },
    "causal": {"attn_mask": nn.Transformer.generate_square_subsequent_mask(6), "is_causal": True},
}


@pytest.mark.parametrize("need", [{"need_weights": False}, {}, {"average_attn_weights": False}])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_it_computes_what_torchs_does(mask, options, need, batch_first):
    inner, x = attention(batch_first=batch_first, **options), torch.randn(3, 6, 16)
    x = x if batch_first else x.transpose(0, 1).contiguous()
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    with torch.no_grad():
        for got, right in zip(
            other(x, x, x, **MASKS[mask], **need), inner(x, x, x, **MASKS[mask], **need), strict=True
        ):
            same(got, right)


@pytest.mark.parametrize("need", [{"need_weights": False}, {}, {"average_attn_weights": False}])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_example_without_a_batch(mask, need, batch_first):
    inner, x = attention(batch_first=batch_first), torch.randn(6, 16)
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    padding = {"key_padding_mask": torch.tensor([False] * 4 + [True] * 2)}
    with torch.no_grad():
        for more in ({}, padding):
            given = {**MASKS[mask], **need, **(more if mask != "float" else {})}  # torch wants masks of one kind
            for got, right in zip(other(x, x, x, **given), inner(x, x, x, **given), strict=True):
                same(got, right)


@pytest.mark.parametrize("names", [("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")])
@pytest.mark.parametrize("calls", ["self", "memory", "three"])
@pytest.mark.parametrize("bias", [True, False])
def test_every_form_is_right_however_it_is_called(names, calls, bias):
    inner = attention(batch_first=True, bias=bias)
    q, k, v = torch.randn(2, 6, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    given = {"self": (q, q, q), "memory": (q, k, k), "three": (q, k, v)}[calls]
    other = LayeredAttention(inner, layers(inner, names))
    with torch.no_grad():
        same(other(*given)[0], inner(*given)[0])


def test_keys_and_values_of_other_widths():
    inner = attention(batch_first=True, kdim=12, vdim=20)
    q, k, v = torch.randn(2, 6, 16), torch.randn(2, 5, 12), torch.randn(2, 5, 20)
    names = form(inner, ["in_proj"])
    assert names == ("q_proj", "k_proj", "v_proj")
    other = LayeredAttention(inner, layers(inner, names))
    with torch.no_grad():
        same(other(q, k, v)[0], inner(q, k, v)[0])
    assert other.in_proj_weight is None
    fresh = LayeredAttention(attention(batch_first=True, kdim=12, vdim=20), layers(inner, names))
    state = {name: torch.randn_like(value) for name, value in inner.state_dict().items()}
    inner.load_state_dict(state)
    fresh.load_state_dict(state)
    with torch.no_grad():
        same(fresh(q, k, v)[0], inner(q, k, v)[0])


def test_the_fewest_products_are_taken():
    q, k, v = torch.randn(3, 2, 6, 16)
    assert [taken(q, q, q), taken(q, k, k), taken(q, k, v)] == [
        ("in_proj",),
        ("q_proj", "kv_proj"),
        ("q_proj", "k_proj", "v_proj"),
    ]


@pytest.mark.parametrize("names", [("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")])
def test_it_loads_the_state_dict_of_the_attention_it_stands_for(names):
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    state = {name: torch.randn_like(value) for name, value in inner.state_dict().items()}
    other = LayeredAttention(copy.deepcopy(inner), layers(inner, names))
    other.load_state_dict(state)
    inner.load_state_dict(state)
    with torch.no_grad():
        same(other(x, x, x)[0], inner(x, x, x)[0])
    again = LayeredAttention(attention(batch_first=True), layers(attention(batch_first=True), names))
    again.load_state_dict(other.state_dict())
    with torch.no_grad():
        same(again(x, x, x)[0], inner(x, x, x)[0])
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict({**state, "in_proj_weight": torch.randn(16, 16)})
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({name: value for name, value in state.items() if name != "in_proj_weight"})


def test_those_who_read_weights_by_name_find_them():
    inner = attention()
    for names in (("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")):
        other = LayeredAttention(inner, layers(inner, names))
        torch.testing.assert_close(other.in_proj_weight, inner.in_proj_weight)
        torch.testing.assert_close(other.in_proj_bias, inner.in_proj_bias)
    assert LayeredAttention(attention(bias=False), layers(attention(bias=False), ("in_proj",))).in_proj_bias is None


def test_separate_weights_are_where_torch_has_them():
    apart, joined = attention(kdim=12, vdim=20), attention()
    for inner, names in ((apart, ("q_proj", "k_proj", "v_proj")), (joined, ("in_proj",))):
        other = LayeredAttention(inner, layers(inner, names))
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            same(getattr(other, name), getattr(inner, name))


def test_what_a_user_added_to_it_is_kept():
    inner = attention()
    inner.register_buffer("table", torch.ones(3))
    inner.register_buffer("scratch", torch.ones(2), persistent=False)
    inner.extra, inner.scale = nn.Linear(2, 2), 2.0
    inner.own = nn.Parameter(torch.ones(4))
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    assert other.table is inner.table
    assert (other.extra, other.scale, other.own) == (inner.extra, 2.0, inner.own)
    assert "table" in other.state_dict()
    assert "scratch" not in other.state_dict()


def test_a_mask_that_torch_does_not_look_at_may_have_any_shape():
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    given = {"attn_mask": nn.Transformer.generate_square_subsequent_mask(10), "is_causal": True, "need_weights": False}
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    with torch.no_grad():
        same(other(x, x, x, **given)[0], inner(x, x, x, **given)[0])


def test_an_attribute_may_be_named_like_a_projection():
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    inner.in_proj, inner.q_proj_scale = None, nn.Parameter(torch.ones(2))
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    assert other.q_proj_scale is inner.q_proj_scale
    with torch.no_grad():
        same(other(x, x, x)[0], inner(x, x, x)[0])


def test_float16_does_not_overflow_where_torch_does_not():
    inner = attention(batch_first=True).half()
    with torch.no_grad():
        inner.in_proj_weight.copy_(torch.eye(16).repeat(3, 1))
        inner.in_proj_bias.zero_()
    x = torch.full((1, 3, 16), 150.0).half()  # 4 * 150 ** 2 > 65504 > that / 2
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    with torch.no_grad():
        assert inner(x, x, x)[0].isfinite().all()
        torch.testing.assert_close(other(x, x, x), inner(x, x, x))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attn_mask": torch.zeros(3, 6, 6)}, "attn_mask has shape"),
        ({"attn_mask": torch.zeros(1, 6)}, "attn_mask has shape"),
        ({"attn_mask": torch.zeros(6, 6, dtype=torch.uint8)}, "attn_mask is of torch.uint8"),
        ({"key_padding_mask": torch.zeros(1, 6)}, "key_padding_mask has shape"),
        ({"key_padding_mask": torch.zeros(3, 6, dtype=torch.uint8)}, "key_padding_mask is of torch.uint8"),
    ],
)
def test_masks_that_torch_refuses_are_refused(given, said):
    inner, x = attention(batch_first=True).train(), torch.randn(3, 6, 16)
    with pytest.raises((RuntimeError, AssertionError)):
        inner(x, x, x, **given)
    with pytest.raises(RuntimeError, match=said):
        LayeredAttention(inner, layers(inner, ("in_proj",)))(x, x, x, **given)


def test_a_causal_hint_needs_its_mask():
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    with pytest.raises(RuntimeError, match="attn_mask"):
        LayeredAttention(inner, layers(inner, ("in_proj",)))(x, x, x, is_causal=True)


# -- convert ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_its_projections_are_rows_of_the_report_and_run_sparse(inputs):
    model = finalised(Calling(attention(batch_first=True)))
    x = tuple(torch.randn(2, 6, 16) for _ in range(inputs))
    fast, report = converted(model, x)
    parts = [["in_proj"], ["q_proj", "kv_proj"], ["q_proj", "k_proj", "v_proj"]][inputs - 1]
    assert [row.layers for row in report.sparse] == [(f"attn.{name}",) for name in [*parts, "out_proj"]]
    assert [row.shape[0] for row in report.rows] == [48 // len(parts)] * 3 + [16] if inputs == 3 else True
    assert all(isinstance(getattr(fast.attn, name), SparseLinear) for name in [*parts, "out_proj"])
    assert type(model.attn) is nn.MultiheadAttention
    with torch.no_grad():
        same(fast(*x)[0], model(*x)[0])


def test_one_that_was_converted_for_itself_is_right_when_it_is_called_with_others():
    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    fast, _ = converted(model, x)
    with torch.no_grad():
        for given in ((x, torch.randn(2, 5, 16)), (x, torch.randn(2, 5, 16), torch.randn(2, 5, 16))):
            same(fast(*given)[0], model(*given)[0])


def test_in_bfloat16_and_after_moves():
    model, x = finalised(Calling(attention(batch_first=True)), dtype=torch.bfloat16), torch.randn(2, 6, 16).bfloat16()
    fast, report = converted(model, x)
    assert len(report.sparse) == 2
    with torch.no_grad():
        torch.testing.assert_close(fast(x)[0], model(x)[0], rtol=0.05, atol=0.05)
        wide = fast.float()
        same(wide(x.float())[0], copy.deepcopy(model).float()(x.float())[0])


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
    with torch.no_grad():
        for other in others:
            assert sum(isinstance(m, SparseLayer) for m in other.modules()) == len(report.sparse)
            same(other(*x)[0], fast(*x)[0])
    fast.load_state_dict(model.state_dict())
    with torch.no_grad():
        same(fast(*x)[0], model(*x)[0])


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
    with torch.no_grad():
        for other in (load_converted(tmp_path / "fast.safetensors", model), apply_choices(model, report.choices)):
            assert isinstance(other.attn.kv_proj, SparseLinear)
            same(other(*x)[0], model(*x)[0])


class OnlyWide(Compressed):
    def refusal(self, problem):
        return "too narrow" if problem.weight[0] < 32 else super().refusal(problem)


def test_two_that_share_their_weights():
    model = nn.ModuleList([attention(batch_first=True), attention(batch_first=True)])
    for name in ("in_proj_weight", "in_proj_bias"):
        setattr(model[1], name, getattr(model[0], name))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, y):
            return self.inner[1](self.inner[0](x, x, x)[0], y, y)[0]

    whole, x = finalised(Both()), (torch.randn(2, 6, 16), torch.randn(2, 5, 16))
    fast, report = converted(whole, x)
    assert report.sparse[0].layers == ("inner.0.q_proj", "inner.1.q_proj")
    assert fast.inner[0].q_proj.packed is fast.inner[1].q_proj.packed
    with torch.no_grad():
        same(fast(*x), whole(*x))


def test_layers_are_chosen_by_the_names_that_sparsify_knows():
    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    with priced(compressed=1.0):
        _, report = convert(model, x, backends=[Compressed()], layers=["attn.in_proj_weight"])
        assert [row.layers for row in report.sparse] == [("attn.in_proj",)]
        _, report = convert(model, x, backends=[Compressed()], layers=["attn.out_proj"])
        assert [row.layers for row in report.sparse] == [("attn.out_proj",)]


class Own(nn.MultiheadAttention):
    def forward(self, query, key, value):
        return super().forward(query, key, value, need_weights=False)


def _hooked() -> nn.MultiheadAttention:
    made = attention(batch_first=True)
    made.register_forward_hook(lambda *_: None)
    return made


def _hooked_inside() -> nn.MultiheadAttention:
    made = attention(batch_first=True)
    made.out_proj.register_forward_hook(lambda *_: None)
    return made


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_hooked_inside, "its out_proj has hooks, which torch's attention never calls"),
        (lambda: Own(16, 4, batch_first=True), "its class Own has a forward of its own"),
        (_hooked, "it has hooks, which a replaced layer would lose"),
    ],
)
def test_one_that_cannot_be_replaced_says_why(make, why):
    model = finalised(nn.Sequential(nn.Linear(16, 16), Calling(make())))
    fast, report = converted(model, torch.randn(2, 6, 16))
    assert [(row.layers, row.reason) for row in report.rows][1] == (("1.attn",), why)
    assert type(fast[1].attn) is type(model[1].attn)


def test_one_that_is_not_called_says_so():
    model = finalised(nn.Sequential(nn.Linear(16, 16)))
    model.spare = finalised(attention())

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner[0](x)

    fast, report = converted(First(), torch.randn(2, 16))
    assert [row.winner for row in report.rows] == ["compressed", "dense", "dense"]
    assert all("not called" in row.reason for row in report.rows[1:])
    assert type(fast.inner.spare) is nn.MultiheadAttention


class Cast(nn.Module):
    """Runs what is inside it under autocast, or without."""

    def __init__(self, inner, enabled=True):
        super().__init__()
        self.inner, self.enabled = inner, enabled

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.enabled):
            return self.inner(x)


def test_one_under_autocast_says_so():
    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    with torch.autocast("cpu", torch.bfloat16):
        _, report = converted(model, x)
    assert all("autocast" in row.reason for row in report.rows)
    _, report = converted(Cast(model), x)
    assert all("autocast" in row.reason for row in report.rows)


def test_autocast_to_the_dtype_of_its_weights_casts_inputs_alone():
    model, x = finalised(Calling(attention(batch_first=True)), dtype=torch.bfloat16), torch.randn(2, 6, 16)
    fast, report = converted(Cast(model), x)
    assert [row.winner for row in report.rows] == ["compressed", "compressed"]
    with torch.no_grad():
        torch.testing.assert_close(fast(x)[0], Cast(model)(x)[0], rtol=0.05, atol=0.05)


def test_what_runs_without_autocast_is_judged_without():
    torch.manual_seed(0)
    layer = finalised(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.float16):
        _, report = converted(Cast(layer, enabled=False), torch.randn(2, 6, 16).bfloat16())
    assert [row.winner for row in report.rows] == ["compressed"] * 4


def test_the_attention_may_be_the_model():
    model, x = finalised(attention(batch_first=True)), torch.randn(2, 6, 16)
    fast, report = converted(model, (x, x, x))
    assert [row.layers for row in report.sparse] == [("in_proj",), ("out_proj",)]
    with torch.no_grad():
        same(fast(x, x, x)[0], model(x, x, x)[0])
    assert isinstance(fast, LayeredAttention)


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
    with torch.no_grad():
        same(fresh(*x)[0], model(*x)[0])


class OnlyMany(Compressed):
    def refusal(self, problem):
        return "too few rows" if problem.rows < 12 else super().refusal(problem)


@pytest.mark.usefixtures("_installed")
def test_converted_in_inference_mode_it_still_loads():
    model, x = finalised(Calling(attention(batch_first=True))), (torch.randn(2, 6, 16), torch.randn(2, 5, 16))
    with torch.inference_mode(), priced(compressed=1.0):
        fast, _ = convert(model, x, backends=[Compressed()])
    assert not any(p.is_inference() for p in (*fast.parameters(), *fast.buffers()))
    fast.load_state_dict(model.state_dict())
    with torch.no_grad():
        same(fast(*x)[0], model(*x)[0])


@pytest.mark.slow
def test_it_is_exported_for_any_batch():
    inner = attention(batch_first=True, add_bias_kv=True, add_zero_attn=True)
    model, batch = Calling(LayeredAttention(inner, layers(inner, ("in_proj",)))), torch.export.Dim("batch")
    made = torch.export.export(model, (torch.randn(2, 6, 16),), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(5, 6, 16)
    with torch.no_grad():
        same(made(x)[0], inner(x, x, x)[0])


@pytest.mark.slow
def test_it_compiles():
    model, x = finalised(Calling(attention(batch_first=True), need_weights=False)), torch.randn(2, 6, 16)
    fast, _ = converted(model, x)
    made = torch.compile(fast, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        same(made(x)[0], model(x)[0])


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_and_decoder(norm_first):
    torch.manual_seed(0)
    model = nn.Transformer(16, 4, 1, 2, 32, batch_first=True, norm_first=norm_first)
    model, x = finalised(model), (torch.randn(2, 6, 16), torch.randn(2, 5, 16))
    fast, report = converted(model, x)
    assert len(report.sparse) == len(report.rows) == 4 + 2 * (2 + 3 + 2)
    assert type(fast.decoder.layers[0].multihead_attn) is LayeredAttention
    with torch.no_grad():
        same(fast(*x), model(*x))


def test_a_vision_transformer():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = finalised(torchvision.models.VisionTransformer(32, 8, 2, 4, 16, 32, num_classes=10))
    x = torch.randn(2, 3, 32, 32)
    fast, report = converted(model, x)
    assert [row.layers[0] for row in report.rows if not row.sparse] == ["conv_proj", "heads.head"]  # as in training
    with torch.no_grad():
        same(fast(x), model(x))


# -- judged whole -----------------------------------------------------------------------------------------------------
def untouched(model) -> bool:
    return not any(isinstance(m, (SparseLayer, LayeredAttention)) for m in model.modules())


def test_one_that_is_slower_with_sparse_projections_stays_as_it_was():
    model, x = finalised(nn.Sequential(nn.Linear(16, 16), Calling(attention(batch_first=True)))), torch.randn(2, 6, 16)
    fast, report = converted(model, x, dense=50.0, sparse=51.0)
    assert [row.winner for row in report.rows] == ["compressed", "dense", "dense"]
    assert {row.reason for row in report.rows[1:]} == {"1.attn: slower as a whole: 1.02 of the time that it takes now"}
    assert all(row.dense_us and row.sparse_us and not row.settings for row in report.rows[1:])
    assert type(fast[1].attn) is nn.MultiheadAttention
    assert type(fast[1].attn.out_proj) is type(model[1].attn.out_proj)
    with torch.no_grad():
        assert torch.equal(fast(x)[0], model(x)[0])


def test_equal_ones_are_timed_once_and_the_next_conversion_times_nothing():
    model = finalised(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3))
    x = torch.randn(2, 6, 16)
    with priced(compressed=1.0) as seen:
        convert(model, x, backends=[Compressed()])
        assert [set(one) for one in seen].count({"dense", "sparse"}) == 1
        seen.clear()
        fast, report = convert(model, x, backends=[Compressed()])
        assert not seen
    assert len(report.sparse) == 12
    with torch.no_grad():
        same(fast(x), model(x))


def test_the_fused_encoder_layer_is_held_against_its_sparse_layers(tmp_path, monkeypatch):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model, x = finalised(nn.TransformerEncoder(layer, 2)), torch.randn(2, 6, 16)
    fast, report = converted(model, x, dense=50.0, sparse=60.0)
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
    with torch.no_grad():
        same(fast(x, src_key_padding_mask=padding), model(x, src_key_padding_mask=padding))


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
    fast, report = converted(model, x, **us)
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
    with torch.no_grad():
        same(fast(x), model(x))


@pytest.mark.parametrize(
    "other", [{"nhead": 2}, {"batch_first": False}, {"norm_first": True}, {"activation": "gelu"}, {"dtype": torch.half}]
)
def test_time_is_kept_only_for_what_is_alike(other):
    layer, x = {"d_model": 16, "nhead": 4, "dim_feedforward": 32, "batch_first": True}, torch.randn(2, 6, 16)
    with priced(compressed=1.0) as seen:
        for options in (layer, layer, {**layer, **other}):
            dtype = options.get("dtype", torch.float32)
            model = finalised(nn.TransformerEncoderLayer(**options), dtype=dtype)
            assert convert(model, x.to(dtype), backends=[Compressed()])[1].sparse
        timed = [set(one) for one in seen].count({"dense", "sparse"})
    assert timed == 2


def test_a_kept_time_does_not_spare_the_comparison():
    torch.manual_seed(0)
    model = finalised(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2))
    x, padding = torch.randn(2, 6, 16), torch.zeros(2, 6, dtype=torch.bool)
    whole = {"src": x, "src_key_padding_mask": padding}
    assert len(converted(model, whole)[1].sparse) == 8
    padding[1, 4:] = True
    assert untouched(converted(model, whole)[0])


def test_one_that_writes_to_its_input_is_compared_too():
    class Writing(Switched):
        def forward(self, x):
            return x.add_(super().forward(x))

    torch.manual_seed(0)
    _, report = converted(finalised(nn.Sequential(nn.Linear(16, 16), Writing(100.0))), torch.randn(5, 16))
    assert report.rows[1].reason.startswith("1: its result differs")


def test_timing_one_that_writes_to_its_input_spoils_nothing_of_the_next():
    class Writing(Switched):
        def forward(self, x):
            return x.add_(super().forward(x))

    torch.manual_seed(0)
    model, x = finalised(nn.Sequential(nn.Linear(16, 16), Writing(0.0), Writing(0.5))), torch.randn(5, 16)
    with (
        mock.patch("nmbench.kernels.convert.bypass.whole._NOT_SLOWER", 1e9),
        mock.patch("nmbench.kernels.convert.choose.CLEAR_WIN", 1e9),
    ):
        fast, report = convert(model, x, backends=[Compressed()], budget_s=0.01)  # really timed, many times
    assert [row.winner for row in report.rows] == ["compressed", "compressed", "dense"]
    assert report.rows[2].reason.startswith("2: its result differs")
    with torch.no_grad():
        same(fast(x.clone()), model(x.clone()))


def test_judging_leaves_what_a_pass_counts():
    class Counting(Switched):
        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.calls = 0

        def forward(self, x):
            self.steps += 1
            self.calls += 1
            return super().forward(x)

    model, x = finalised(nn.Sequential(Counting())), torch.randn(5, 16)
    fast, report = converted(model, x)
    assert len(report.sparse) == 1
    assert (float(fast[0].steps), fast[0].calls) == (1, 1), "of the pass over the example inputs"


def test_a_result_without_a_finite_number_is_no_comparison():
    class Nothing(Switched):
        def forward(self, x):
            return super().forward(x) * float("nan")

    _, report = converted(finalised(nn.Sequential(Nothing())), torch.randn(5, 16))
    assert report.rows[0].reason == "0: could not be compared: its result is not finite"


def test_whatever_a_unit_carries_it_is_judged():
    class Anything:
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda: None

    class Raising(dict):
        __getattr__ = dict.__getitem__

    model = finalised(nn.Sequential(Switched(), Switched()))
    model[0].any, model[0].map, model[0].big = Anything(), Raising(), 10**5000
    model[0].layer_idx, model[1].layer_idx = 0, 1
    model[1].__dict__.update(any=Anything(), map=Raising(), big=10**5000)
    with priced(compressed=1.0) as seen:
        _, report = convert(model, torch.randn(5, 16), backends=[Compressed()], inplace=True)
    assert len(report.sparse) == 2
    assert [set(one) for one in seen].count({"dense", "sparse"}) == 1, "a number of its own does not set it apart"


def test_units_of_another_version_of_a_backend_are_timed_anew(monkeypatch):
    model, x = finalised(nn.Sequential(Switched())), torch.randn(5, 16)
    versions = iter(["1", "1", "2"])
    with priced(compressed=1.0) as seen:
        for version in versions:
            told = {"compressed": SimpleNamespace(version=version)}
            monkeypatch.setattr("nmbench.kernels.registry.backends", lambda told=told: told)
            convert(model, x, backends=[Compressed()])
    assert [set(one) for one in seen].count({"dense", "sparse"}) == 2


def test_little_memory_leaves_one_as_it_was(monkeypatch):
    def short(*_, **__):
        raise torch.OutOfMemoryError

    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    monkeypatch.setattr("nmbench.kernels.convert.bypass.whole._timed", short)
    fast, report = converted(model, x)
    assert untouched(fast)
    assert {row.reason for row in report.rows} == {"attn: there was not enough memory to compare it as a whole"}


def test_a_single_copy_is_no_copy(monkeypatch):
    made = []
    monkeypatch.setattr(
        "nmbench.kernels.convert.bypass.whole.replica",
        lambda *given, apart=False: (made.append(apart), replica(*given, apart=apart))[1],
    )
    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    converted(model, x)
    assert made == [False] * 4  # compared and timed, as it was and sparse
    monkeypatch.setattr(timing, "copies", lambda size, device: 2)
    model.attn.register_buffer("other", torch.zeros(1))  # not timed yet
    converted(model, x)
    assert made[4:] == [False] * 2 + [True] * 4


def test_one_that_fails_by_itself_stays_as_it_was():
    class Once(Switched):
        def forward(self, x):
            if getattr(self, "count", 0) and self.skip_embed_dim_check:
                raise RuntimeError("only once\nand never again")
            self.count = 1
            return super().forward(x)

    model, x = finalised(nn.Sequential(Once(), nn.Linear(16, 16))), torch.randn(5, 16)
    fast, report = converted(model, x)
    assert report.rows[0].reason == "0: could not be run by itself with sparse layers: RuntimeError: only once"
    assert not fast[0].skip_embed_dim_check


def test_really_timed_on_a_cpu():
    model, x = finalised(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 1)), None
    x = torch.randn(2, 6, 16)
    fast, report = convert(model, x, backends=[Compressed()], budget_s=0.01)
    assert len(report.rows) == 4
    with torch.no_grad():
        same(fast(x), model(x))


def test_a_replica_shares_its_tensors_or_has_its_own():
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    inner.append(inner[0])
    shared, apart = replica(inner, {}), replica(inner, {}, apart=True)
    assert shared[0].weight is inner[0].weight
    assert apart[0] is apart[2]
    tensors = {t.data_ptr() for t in (*inner.parameters(), *inner.buffers())}
    assert not tensors & {t.data_ptr() for t in (*apart.parameters(), *apart.buffers())}
    other = nn.Linear(4, 4)
    assert replica(inner, {inner[0]: other})[2].weight is other.weight
    assert inner[0] is not other
    assert timing.copies(100, torch.device("cpu")) == 1

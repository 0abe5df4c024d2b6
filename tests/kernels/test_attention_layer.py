"""Attention whose projections are layers: the results, arguments and state dict of torch's own."""

import copy

import pytest
import torch
from attention_toys import Calling, attention, same
from convert_toys import assert_same
from torch import nn

from nmbench.kernels.conversion.bypass.attention import LayeredAttention, layers

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
@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("batch_first", [True, False])
def test_it_computes_what_torchs_does(mask, options, need, batch_first):
    inner, x = attention(batch_first=batch_first, **options), torch.randn(3, 6, 16)
    x = x if batch_first else x.transpose(0, 1).contiguous()
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    assert_same(inner, other, x, x, x, **MASKS[mask], **need)


@pytest.mark.parametrize("need", [{"need_weights": False}, {}, {"average_attn_weights": False}])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_one_example_without_a_batch(mask, need, batch_first):
    inner, x = attention(batch_first=batch_first), torch.randn(6, 16)
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    padding = {"key_padding_mask": torch.tensor([False] * 4 + [True] * 2)}
    for more in ({}, padding if mask != "float" else {}):  # torch wants masks of one kind
        assert_same(inner, other, x, x, x, **MASKS[mask], **need, **more)


@pytest.mark.parametrize("names", [("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")])
@pytest.mark.parametrize("calls", ["self", "memory", "three"])
@pytest.mark.parametrize("bias", [True, False])
def test_every_form_is_right_however_it_is_called(names, calls, bias):
    inner = attention(batch_first=True, bias=bias)
    q, k, v = torch.randn(2, 6, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    given = {"self": (q, q, q), "memory": (q, k, k), "three": (q, k, v)}[calls]
    other = LayeredAttention(inner, layers(inner, names))
    assert_same(inner, other, *given)


@pytest.mark.parametrize("names", [("in_proj",), ("q_proj", "kv_proj"), ("q_proj", "k_proj", "v_proj")])
def test_it_loads_the_state_dict_of_the_attention_it_stands_for(names):
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    state = {name: torch.randn_like(value) for name, value in inner.state_dict().items()}
    other = LayeredAttention(copy.deepcopy(inner), layers(inner, names))
    other.load_state_dict(state)
    inner.load_state_dict(state)
    assert_same(inner, other, x, x, x)
    again = LayeredAttention(attention(batch_first=True), layers(attention(batch_first=True), names))
    again.load_state_dict(other.state_dict())
    assert_same(inner, again, x, x, x)
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
    assert_same(inner, other, x, x, x, **given)


def test_an_attribute_may_be_named_like_a_projection():
    inner, x = attention(batch_first=True), torch.randn(2, 6, 16)
    inner.in_proj, inner.q_proj_scale = None, nn.Parameter(torch.ones(2))
    other = LayeredAttention(inner, layers(inner, ("in_proj",)))
    assert other.q_proj_scale is inner.q_proj_scale
    assert_same(inner, other, x, x, x)


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
        ({"attn_mask": torch.zeros(3, 6, 6)}, r"attn_mask: .*use bool or floats, \(6, 6\) or \(12, 6, 6\)"),
        ({"attn_mask": torch.zeros(1, 6)}, r"attn_mask: .*use bool or floats, \(6, 6\) or \(12, 6, 6\)"),
        ({"attn_mask": torch.zeros(6, 6, dtype=torch.uint8)}, "attn_mask: torch.uint8"),
        ({"key_padding_mask": torch.zeros(1, 6)}, "key_padding_mask: "),
        ({"key_padding_mask": torch.zeros(3, 6, dtype=torch.uint8)}, "key_padding_mask: torch.uint8"),
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


@pytest.mark.slow
def test_it_is_exported_for_any_batch():
    inner = attention(batch_first=True)
    model, batch = Calling(LayeredAttention(inner, layers(inner, ("in_proj",)))), torch.export.Dim("batch")
    made = torch.export.export(model, (torch.randn(2, 6, 16),), dynamic_shapes=({0: batch},)).module()
    x = torch.randn(5, 6, 16)
    with torch.no_grad():
        same(made(x)[0], inner(x, x, x)[0])

"""`convert` on models with torch's attention: its projections are layers of the report, and run sparse."""

import pytest
import torch
from attention_toys import Calling, attention
from convert_toys import Compressed, assert_same, converted, finalised, priced
from torch import nn

from nmbench.kernels import SparseLinear, convert
from nmbench.kernels.conversion.bypass.attention import LayeredAttention

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor"),
]


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
    assert_same(model, fast, *x)


def test_one_that_was_converted_for_itself_is_right_when_it_is_called_with_others():
    model, x = finalised(Calling(attention(batch_first=True))), torch.randn(2, 6, 16)
    fast, _ = converted(model, x)
    for given in ((x, torch.randn(2, 5, 16)), (x, torch.randn(2, 5, 16), torch.randn(2, 5, 16))):
        assert_same(model, fast, *given)


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
    assert_same(whole, fast, *x)


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
        (lambda: attention(batch_first=True, add_zero_attn=True), "it adds positions to its keys"),
        (lambda: attention(batch_first=True, add_bias_kv=True), "it adds positions to its keys"),
    ],
)
def test_one_that_cannot_be_replaced_says_why(make, why):
    model = finalised(nn.Sequential(nn.Linear(16, 16), Calling(make())))
    fast, report = converted(model, torch.randn(2, 6, 16))
    assert [(row.layers, row.reason) for row in report.rows][1] == (("1.attn",), why)
    assert type(fast[1].attn) is type(model[1].attn)


def test_one_whose_keys_and_values_differ_in_width_stays_as_it_is():
    model = finalised(Calling(attention(batch_first=True, kdim=12, vdim=20)))
    fast, report = converted(model, (torch.randn(2, 6, 16), torch.randn(2, 5, 12), torch.randn(2, 5, 20)))
    assert not report.sparse
    assert "its queries, keys and values differ in width" in {row.reason for row in report.rows}
    assert type(fast.attn) is nn.MultiheadAttention


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


def test_the_attention_may_be_the_model():
    model, x = finalised(attention(batch_first=True)), torch.randn(2, 6, 16)
    fast, report = converted(model, (x, x, x))
    assert [row.layers for row in report.sparse] == [("in_proj",), ("out_proj",)]
    assert_same(model, fast, x, x, x)
    assert isinstance(fast, LayeredAttention)


@pytest.mark.slow
def test_it_compiles():
    model, x = finalised(Calling(attention(batch_first=True), need_weights=False)), torch.randn(2, 6, 16)
    fast, _ = converted(model, x)
    made = torch.compile(fast, fullgraph=True, backend="aot_eager")
    assert_same(model, made, x)


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_and_decoder(norm_first):
    torch.manual_seed(0)
    model = nn.Transformer(16, 4, 1, 2, 32, batch_first=True, norm_first=norm_first)
    model, x = finalised(model), (torch.randn(2, 6, 16), torch.randn(2, 5, 16))
    fast, report = converted(model, x)
    assert len(report.sparse) == len(report.rows) == 4 + 2 * (2 + 3 + 2)
    assert type(fast.decoder.layers[0].multihead_attn) is LayeredAttention
    assert_same(model, fast, *x)


def test_a_vision_transformer():
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = finalised(torchvision.models.VisionTransformer(32, 8, 2, 4, 16, 32, num_classes=10))
    x = torch.randn(2, 3, 32, 32)
    fast, report = converted(model, x)
    assert [row.layers[0] for row in report.rows if not row.sparse] == ["conv_proj", "heads.head"]  # as in training
    assert_same(model, fast, x)

"""What `convert` cannot take: an error of a line or two, or a layer that stays dense with its reason."""

import importlib.util

import pytest
import torch
from convert_toys import Compressed, converted, finalised, mlp
from torch import nn

from nmbench.kernels import convert, registry
from nmbench.sparsity import audit, cost, sparsify

CPU = torch.device("cpu")
X = torch.randn(5, 24)


pytestmark = pytest.mark.usefixtures("own_cache")


def raises(words, model, x=X, **options):
    with pytest.raises(ValueError, match=words) as caught:
        converted(model, x, **options)
    assert len(str(caught.value).splitlines()) <= 2


# -- the model ----------------------------------------------------------------------------------------------------
def test_a_model_that_is_not_finalised():
    model = mlp()
    sparsify(model, "2:4")
    raises(r"call handle\.finalize\(\) first", model)


def test_a_dense_model():
    raises("no layer of the model keeps to an N:M pattern: was its handle finalised", mlp())
    raises(r"keeps to 1:4.*\n?.*0: violates the pattern: the group of inputs 0 to 3", finalised(mlp()), pattern="1:4")


def test_a_group_of_one_input_is_no_sign_of_a_pattern():
    depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))
    for pattern in (None, "2:4"):
        raises("was its handle finalised", depthwise, torch.randn(1, 8, 5, 5), pattern=pattern)
    _, report = converted(finalised(depthwise), torch.randn(1, 8, 5, 5))
    assert [row.reason for row in report.rows] == ["depthwise: no reduction over channels", ""]
    _, report = converted(finalised(depthwise), torch.randn(1, 8, 5, 5), pattern="2:4")
    assert report.rows[0].reason == "its grouped dimension is 1, below M = 4"


def test_a_model_without_layers_and_a_compiled_one():
    raises("no linear or convolution layer to convert", nn.ReLU())
    raises("compiled: convert it first", torch.compile(finalised(mlp()), backend="eager"))
    part = finalised(mlp())
    part[0].compile(backend="eager")
    raises(r"this model is compiled \(0\): convert it first", part)
    part[0]._compiled_call_impl = None
    part[0] = torch.compile(part[0], backend="eager")
    raises(r"this model is compiled \(0\)", part)


def test_bad_arguments():
    raises("write N:M", finalised(mlp()), pattern="24")
    raises("names no convolution or linear weight", finalised(mlp()), layers=["7"])
    raises("launch 'fast'", finalised(mlp()), launch="fast")
    raises("converted already", converted(finalised(mlp()), X)[0])
    conv = finalised(nn.Conv2d(8, 16, 3), "2:4@kernel")
    raises("For groups along a kernel say so: pattern='2:4@kernel'", conv, torch.randn(1, 8, 6, 6))
    with pytest.raises(ValueError, match="no backend 'tritn'; did you mean 'triton'"):
        convert(finalised(mlp()), X, backends=["tritn"])


def test_inputs_that_do_not_fit():
    raises(
        r"does not take the example inputs \(float32 \(5, 23\)\):\nRuntimeError: .*mat1 and mat2",
        finalised(mlp()),
        torch.ones(5, 23),
    )
    raises(r"\(float32 \(5, 24\), int\):\nTypeError", finalised(mlp()), (X, 3))
    raises("TypeError", finalised(mlp()), {"y": X})


def test_a_pass_that_fails_leaves_the_model_as_it_was():
    model = finalised(mlp())
    raises("does not take", model, torch.ones(5, 23), inplace=True)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear]
    assert "_nm_seen" not in model[0].__dict__


# -- its layers ---------------------------------------------------------------------------------------------------
def two(first, width=24, dtype=torch.float32):
    """`first`, and a layer that can be converted, so that the model keeps to a pattern somewhere."""
    return nn.Sequential(first, finalised(nn.Linear(width, 8), dtype=dtype))


def test_a_weight_that_is_not_contiguous_is_taken():
    model = finalised(nn.Sequential(nn.Linear(24, 16)))
    model[0].weight.data = model[0].weight.detach().t().contiguous().t()
    assert not model[0].weight.is_contiguous()
    fast, report = converted(model, X)
    assert report.rows[0].winner == "compressed"
    torch.testing.assert_close(fast(X), model(X))


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_layer():
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(24, 24)), {nn.Linear}, torch.qint8)
    _, report = converted(two(quantised[0]), X)
    assert (report.rows[-1].layers, report.rows[-1].reason) == (("0",), "a quantised layer")


class Sub(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Inner(nn.Module):
    """Holds a layer, which each that derives from it calls in a way of its own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(24, 24)


class ByName(Inner):
    def forward(self, x):
        return nn.functional.linear(x, self.inner.weight, self.inner.bias)


class Autocast(Inner):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.inner(x).float()


class Unused(Inner):
    def forward(self, x):
        return x


def hooked():
    layer = nn.Linear(24, 24)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (Sub(24, 24), "its class Sub has a forward of its own"),
        (ByName(), "its weight is read by name"),
        (Autocast(), "runs under autocast"),
        (Unused(), "not called on the example inputs"),
        (hooked(), "hooks"),
    ],
)
def test_layers_that_stay_dense_for_a_reason(first, words):
    model = two(finalised(first))
    fast, report = converted(model, X)
    assert words in report.rows[0].reason
    torch.testing.assert_close(fast(X), model(X))


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal])
def test_a_parametrised_layer_is_named(wrap):
    model = two(wrap(nn.Linear(24, 24)))
    _, report = converted(model, X)
    assert "its weight is computed from others (a parametrisation)" in [row.reason for row in report.rows]
    assert report.rows[0].winner == "dense"


def test_a_broken_backend_is_a_note(monkeypatch):
    known = {**registry.backends(), "other": registry.Found("other", None, "ImportError: no", "x 1")}
    monkeypatch.setattr(registry, "backends", lambda: known)
    _, report = convert(finalised(mlp()), X)
    assert "backend 'other' cannot be used: ImportError: no" in report.notes


def test_without_triton(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "triton" else real(name, *a))
    model = finalised(mlp())
    same, report = convert(model, X, backends=["triton"])
    assert report.rows[0].reason == "triton is not installed"
    assert torch.equal(same(X), model(X))


def test_what_is_no_input_and_no_backend_is_told():
    raises("example_inputs: a tensor, a sequence or a mapping is needed, not NoneType", finalised(mlp()), None)
    raises("not int", finalised(mlp()), 5)
    for given, said in (("triton", r"give a list, \['triton'\]"), ([Compressed], "neither a name nor an instance")):
        with pytest.raises(ValueError, match=said):
            convert(finalised(mlp()), X, backends=given)


def test_weights_that_are_packed_are_not_overlooked():
    fast, _ = converted(finalised(mlp()), X)
    for use in (lambda: sparsify(fast, "2:4"), lambda: cost(fast, (X,)), lambda: audit(fast, "2:4")):
        with pytest.raises(ValueError, match=r"0: its weight is packed, .* take the model that was converted"):
            use()


def test_an_embedding_that_shares_the_weight_is_named():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.body, self.head = nn.Embedding(12, 8), nn.Linear(8, 8), nn.Linear(8, 12, bias=False)
            self.head.weight = self.emb.weight

        def forward(self, x):
            return self.head(self.body(self.emb(x)))

    model = Tied()
    finalised(model.body)
    _, report = converted(model, torch.arange(5))
    assert {" = ".join(row.layers): row.reason for row in report.rows}["emb = head"] == "Embedding shares its weight"

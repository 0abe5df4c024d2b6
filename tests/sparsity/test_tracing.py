"""Whoever records a sparse model, records the sparse network or is told to finalize it first."""

import io
import warnings

import pytest
import torch
from attach_toys import Attention, plain_twin
from sparsity_toys import batch, convnet, mlp
from torch import fx, nn

from nmbench.sparsity import sparsify

CASES = {
    "mlp": (mlp, batch(0)[0]),
    "convnet": (convnet, torch.randn(2, 3, 8, 8)),
    "attention": (Attention, torch.randn(2, 5, 8)),
}
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")


@pytest.fixture(params=CASES)
def case(request):
    make, x = CASES[request.param]
    return make().eval(), x


@pytest.mark.parametrize("method", ["ste", "one-shot"])
def test_jit_trace(path, case, method):
    model, x = case
    handle = sparsify(model, "2:4", method)
    traced = torch.jit.trace(model, x, check_trace=False)
    torch.testing.assert_close(traced(x), plain_twin(handle, model)(x))


@pytest.mark.parametrize("method", ["ste", "one-shot"])
def test_torch_export(case, method):
    model, x = case
    handle = sparsify(model, "2:4", method)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), plain_twin(handle, model)(x))


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(dynamo):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    reference = pytest.importorskip("onnx.reference", reason="onnx cannot be imported")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, x = mlp().eval(), batch(0)[0]
    handle = sparsify(model, "2:4", "ste")
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), file, dynamo=dynamo)
    graph = reference.ReferenceEvaluator(onnx.load_from_string(file.getvalue()))
    (output,) = graph.run(None, {graph.input_names[0]: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), plain_twin(handle, model)(x))


def test_make_fx(case):
    model, x = case
    handle = sparsify(model, "2:4", "ste")
    traced = fx.experimental.proxy_tensor.make_fx(lambda inputs: model(inputs))(x)
    torch.testing.assert_close(traced(x), plain_twin(handle, model)(x))


def test_fx_does_not_freeze_a_weight_that_a_module_reads_itself():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x):
            return nn.functional.linear(x, self.inner.weight)

    model = nn.Sequential(Own())
    sparsify(model, "2:4", "ste")
    with pytest.raises(RuntimeError, match="finalize"):
        fx.symbolic_trace(model)


def test_script_says_to_finalize_first():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    with pytest.raises(RuntimeError, match="finalize"):
        torch.jit.script(model)
    handle.finalize()
    x = batch(0)[0]
    assert torch.equal(torch.jit.script(model)(x), model(x))

"""A converted model in other hands: copied, pickled, moved to another dtype, compiled, under autocast."""

import copy
import pickle

import pytest
import torch
from convert_toys import converted, convnet, finalised, mlp, priced
from fake_libraries import FakeCuSparseLt, FakeCutlass, calls, fakes
from torch import nn

from nmbench.kernels import SparseLinear, convert

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16], ids=str)
def test_under_autocast_a_layer_gives_the_dtype_that_a_dense_one_gives(held, given):
    model, x = finalised(mlp(), dtype=held), torch.randn(5, 24)
    fast, _ = converted(model, x.to(held))
    assert isinstance(fast[0], SparseLinear)
    for kind in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", kind):
            got, dense = fast[0](x.to(given)), model[0](x.to(given))
        assert got.dtype == dense.dtype == kind
        torch.testing.assert_close(got.float(), dense.float(), rtol=5e-2, atol=5e-2)
    with pytest.raises(RuntimeError, match="converted for"):
        fast(x.double())


def test_it_compiles_with_gradients_on_too():
    model, x = finalised(nn.Sequential(nn.LayerNorm(24), mlp())), torch.randn(5, 24)
    fast, _ = converted(model, x)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    assert torch.is_grad_enabled()
    torch.testing.assert_close(compiled(x), model(x))


def test_what_is_converted_in_inference_mode_works_outside():
    model, x = finalised(mlp()), torch.randn(5, 24)
    with torch.inference_mode():
        fast, _ = converted(model, x)
        fast[0].packed.to(torch.bfloat16)
    assert not any(tensor.is_inference() for tensor in (*fast.parameters(), *fast.buffers()))
    fast.to(torch.bfloat16)
    compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x.bfloat16()).float(), model(x), rtol=5e-2, atol=5e-2)


def test_the_libraries_compile_into_one_graph():
    model = finalised(
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Flatten(), nn.Linear(1024, 64)), dtype=torch.bfloat16
    )
    x = torch.randn(2, 64, 4, 4).bfloat16()
    with fakes(), priced(cusparselt=1.0, cutlass=2.0), torch.no_grad():
        fast, report = convert(model, x, backends=[FakeCuSparseLt(), FakeCutlass()])
        assert {row.winner for row in report.rows} == {"cusparselt"}
        compiled = torch.compile(fast, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x).float(), model(x).float(), rtol=3e-2, atol=3e-2)


def test_it_copies_and_pickles():
    model, x = finalised(convnet()), torch.randn(2, 8, 6, 6)
    fast, _ = converted(model, x)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(other(x), fast(x))
        assert other[0].packed.tensors()["values"].data_ptr() != fast[0].packed.tensors()["values"].data_ptr()


def test_settings_of_another_machine_are_not_used(monkeypatch):
    model, x = finalised(nn.Sequential(nn.Linear(128, 64)), dtype=torch.bfloat16), torch.randn(8, 128).bfloat16()
    searched = "cusparselt {'alg_id': 3, 'split_k': 1, 'split_k_mode': -1}"
    with fakes(), priced(**{searched: 12.0}):
        fast, _ = convert(model, x, backends=[FakeCuSparseLt()])
        fast(x)
        assert calls[-1][4] == (3, 1, -1)
        monkeypatch.setattr("nmbench.kernels.packed.fingerprint", lambda device: "another")
        elsewhere = pickle.loads(pickle.dumps(fast))
        elsewhere(x)
        assert calls[-1][4] == ()
        monkeypatch.undo()
        pickle.loads(pickle.dumps(elsewhere))(x)
        assert calls[-1][4] == (3, 1, -1)


def test_where_the_backend_cannot_run_the_layer_runs_dense():
    model, x = finalised(nn.Sequential(nn.Linear(128, 64)), dtype=torch.bfloat16), torch.randn(8, 128).bfloat16()
    with fakes(), priced(cutlass=1.0):
        fast, _ = convert(model, x, backends=[FakeCutlass()])
        fast.to(torch.float32)  # which CUTLASS does not take
        assert fast[0].packed.running.name == "dense"
        assert "running dense: unsupported dtype float32" in repr(fast)
        torch.testing.assert_close(fast(x.float()), model.float()(x.float()))
        fast.to(torch.bfloat16)
        assert fast[0].packed.running.name == "cutlass"

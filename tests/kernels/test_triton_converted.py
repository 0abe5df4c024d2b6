"""The backend `triton` in the battery and in `convert`, under the interpreter."""

from unittest import mock

import interpreted
import pytest
import torch
from torch import nn

pytest.importorskip("triton")
pytestmark = pytest.mark.slow


def battery() -> tuple[str, list[str], int]:
    """Few and small layers: the interpreter takes about a millisecond for what a GPU does in a microsecond."""
    from nmbench.kernels import registry
    from nmbench.testing import backend_checks, check_backend

    small = {
        "_PATTERNS": ("2:4", "3:5"),
        "_DTYPES": (torch.float32, torch.bfloat16, torch.int8),
        "_LINEAR": ((7, 23),),
        "_ROWS": (1, 5, 34),
        "_CONV": (((6, 8, 2, 3), {"padding": (1, 1), "stride": (2, 1)}), ((6, 5, 3, 3), {"groups": 2})),
    }
    with mock.patch.multiple(backend_checks, **small):
        done = check_backend(registry.load("triton"))
    return done.summary, list(done.failed), done.count("skipped")


def conversion(folder: str) -> list[float]:
    """Deviations from the dense model of: the converted one, its copy from a file, and after a move to bfloat16."""
    from nmbench.kernels import convert, load_converted, save_converted
    from nmbench.kernels.conversion import choose
    from nmbench.sparsity import sparsify

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 12)).eval()
    sparsify(model, "2:4", "one-shot").finalize()
    x = torch.randn(2, 6, 4, 4)
    with mock.patch.object(choose, "CLEAR_WIN", 1e9), torch.no_grad():
        fast, report = convert(model, x, cache=False, budget_s=0.0)
        assert [row.winner for row in report.rows] == ["triton", "triton"], report.table()
        assert not report.notes
        save_converted(f"{folder}/fast.safetensors", fast)
        again = load_converted(f"{folder}/fast.safetensors", model)
        off = [float((m(x) - model(x)).abs().max()) for m in (fast, again)]
        fast.to(torch.bfloat16)
        return [*off, float((fast(x.bfloat16()).float() - model(x)).abs().max())]


def test_it_passes_the_battery():
    summary, failed, skipped = interpreted.run(battery)
    assert failed == []
    assert skipped == 0, summary


def test_a_model_runs_on_it(tmp_path):
    exact, loaded, rounded = interpreted.run(conversion, str(tmp_path))
    assert exact < 1e-5
    assert loaded < 1e-5
    assert 0 < rounded < 5e-2

"""The written-down shapes: they are those of the models, and every suite yields cases that make sense."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from project import script
from torch.nn import functional as F

from nmbench._util.errors import UsageError
from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.suites import SUITES, cases, products

TRACER = Path(__file__).parents[2] / "benchmarks" / "trace_shapes.py"


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["classification", "translation"])
def test_the_file_is_what_a_fresh_trace_says(suite: str) -> None:
    """The cheap ones; `python benchmarks/trace_shapes.py` writes all."""
    if suite == "translation" and importlib.util.find_spec("fairseq") is None:
        pytest.skip("the translation task needs fairseq")
    assert script(TRACER).trace(suite) == products()[suite]["products"]


@pytest.mark.parametrize("suite", list(SUITES))
def test_shapes_fit_together(suite: str) -> None:
    """Rows are those of the product that torch would do, asked with tensors that hold nothing."""
    for case in cases(suite, rows=(3,), batches=(1, 2)):
        p = case.problem
        x, weight = torch.empty(p.input, device="meta"), torch.empty(p.weight, device="meta")
        if p.kind == "linear":
            y = F.linear(x, weight)
        else:
            y = F.conv2d(x, weight, None, p.stride, p.padding, p.dilation, p.groups)
        assert y.numel() == p.rows * p.weight[0]
        assert case.flops == 2 * y.numel() * weight[0].numel()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dtypes": ["bf61"]}, "did you mean 'bf16'"),
        ({"patterns": ["4:2"]}, "--patterns"),
        ({"patterns": ["2:4@kernel"]}, "groups along a kernel"),
        ({"rows": [0]}, "positive"),
        ({"row": [1]}, "no option 'row'"),
    ],
)
def test_options_that_do_not_exist(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Options.from_dict(given)

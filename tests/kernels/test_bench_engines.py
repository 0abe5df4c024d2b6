"""Single products in onnxruntime and OpenVINO, beside torch's. `pytest tests/kernels/test_bench_engines.py`"""

import pytest
import torch

from nmbench.kernels.bench import engines
from nmbench.kernels.bench.operands import Source, reference, relative
from nmbench.kernels.problem import conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern

pytest.importorskip("onnx")
CPU = torch.device("cpu")
ANY = NMPattern(1, 1)
LINEAR = linear_problem((24, 20), (5, 20), ANY, torch.float32, CPU)
CONV = conv2d_problem((12, 4, 3, 3), (2, 8, 9, 7), ANY, torch.float32, CPU, (2, 1), (1, 2), (1, 2), groups=2)


@pytest.mark.parametrize("problem", [LINEAR, CONV], ids=["linear", "conv"])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_gives_the_product(name, problem):
    pytest.importorskip(name)
    (way,) = [one for one in engines.ways(problem) if one.name.startswith(name)]
    source = Source(CPU)
    weight = source.draw(problem.weight, torch.float32)
    operand = way.prepare(weight)
    for _ in range(3):
        x = source.draw(problem.input, torch.float32)
        assert relative(way.run(way.lay(x), operand), reference(problem, x, weight)) < 1e-5


def test_there_is_none_for_another_dtype():
    assert not list(engines.ways(linear_problem((24, 20), (5, 20), ANY, torch.bfloat16, CPU)))


def test_none_is_offered_where_the_engine_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "onnx" or None)
    assert not list(engines.ways(LINEAR))

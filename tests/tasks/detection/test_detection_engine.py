"""The module that stands in for mmcv's compiled operators where only mmcv-lite is installed."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmcv")

from nmbench_tasks.detection.engine import install

if install() != "torchvision":
    pytest.skip("full mmcv serves its operators itself", allow_module_level=True)

import mmcv.ops

EXT = sys.modules["mmcv._ext"]
# what the models of this family use
SERVED = {
    "nms",
    "softnms",
    "deform_conv_forward",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    *(
        f"{name}_{way}"
        for name in ("roi_align", "roi_pool", "sigmoid_focal_loss", "modulated_deform_conv")
        for way in ("forward", "backward")
    ),
}


def fresh(script: str, **env: str) -> str:
    """What `script` prints, in an interpreter that has imported nothing."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_every_model_of_mmdet_can_be_imported_even_after_a_first_failure():
    printed = fresh("""
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    print(error)
from nmbench_tasks.detection.engine import install
print(install())
import mmdet.models, mmdet.registry
from mmengine.utils.dl_utils.misc import mmcv_full_available
print(mmdet.registry.MODELS.get("FasterRCNN").__name__, mmcv_full_available())
""")
    assert printed.splitlines() == ["No module named 'mmcv._ext'", "torchvision", "FasterRCNN False"]


@pytest.mark.slow
def test_full_mmcv_is_left_alone_and_one_that_does_not_load_is_named(tmp_path):
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_ext.py").write_text("from mmcv.so import nms\n")
    printed = fresh(
        f"""
import pathlib, sys
from nmbench_tasks.detection.engine import install
try:
    install()
except ImportError as error:
    print(error)
pathlib.Path({str(package)!r}, "so.py").write_text("nms = 'the compiled one'")
print(install(), install(), sys.modules["mmcv._ext"].nms)
""",
        PYTHONPATH=str(tmp_path),
    )
    first, second, served = printed.splitlines()
    assert re.search(r"do not load with torch .*mmcv\.so", first)
    assert "install the mmcv" in second
    assert served == "mmcv mmcv the compiled one"


def test_without_any_mmcv_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmcv", None)
    with pytest.raises(ImportError, match=r"need mmcv: .*\n.*pip install 'nmbench\[detection-lite\]'$") as caught:
        install()
    assert str(caught.value).count("\n") == 1


def test_served_operators_take_the_arguments_that_mmcv_declares():
    declared = (Path(mmcv.ops.__file__).parent / "csrc/pytorch/pybind.cpp").read_text()
    for name in SERVED:
        arguments = re.search(rf'm\.def\("{name}",(.*?)\);', declared, re.DOTALL)
        expected = re.findall(r'py::arg\("(\w+)"\)', arguments[1])
        assert list(inspect.signature(getattr(EXT, name)).parameters) == expected, name


def test_every_other_operator_that_mmcv_names_refuses_when_called():
    sources = "".join(path.read_text() for path in Path(mmcv.ops.__file__).parent.glob("*.py"))
    asked = {name for call in re.findall(r"load_ext\(\s*'_ext',\s*\[(.*?)\]", sources, re.DOTALL)
             for name in re.findall(r"'(\w+)'", call)}  # fmt: skip
    assert asked >= SERVED
    refused = 0
    for name in asked - SERVED - {"get_compiler_version", "get_compiling_cuda_version"}:
        with pytest.raises(NotImplementedError, match=rf"'{name}' needs full mmcv.*\n.*mim install") as caught:
            getattr(EXT, name)(torch.zeros(1), some=1)
        assert str(caught.value).count("\n") == 1
        refused += 1
    assert refused > 90


def test_an_operator_that_is_not_served_refuses_through_mmcv():
    with pytest.raises(NotImplementedError, match="'nms_match' needs full mmcv"):
        mmcv.ops.nms_match(torch.tensor([[0.0, 0, 1, 1, 0.5]]), 0.5)
    with pytest.raises(NotImplementedError, match="pool_mode='max' needs full mmcv"):
        mmcv.ops.RoIAlign(2, pool_mode="max")(torch.zeros(1, 1, 5, 5), torch.tensor([[0.0, 0, 0, 2, 2]]))

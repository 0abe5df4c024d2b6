"""A task's settings are one table: types, ranges and help texts, the same ones at every scale."""

import math
import subprocess
import sys

import pytest

from nmbench.task import Spec
from nmbench_tasks.classification import Classification
from nmbench_tasks.detection import Detection, Segmentation
from nmbench_tasks.optical_flow import OpticalFlow
from nmbench_tasks.translation import Translation

TASKS = (Classification, Detection, Segmentation, OpticalFlow, Translation)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_scale_has_every_setting_within_its_range(task):
    for scale, values in task.scales.items():
        assert list(values) == list(task.settings.model_fields)
        assert task.settings.of(Spec(task.name, "any", scale, 0, values)).model_dump() == values


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_setting_says_what_it_is(task):
    assert all(field.description for field in task.settings.model_fields.values())


@pytest.mark.parametrize(
    ("task", "setting", "value", "words"),
    [
        (Classification, "transform", "mirror", "'digits' or 'imagenet'"),
        (Classification, "epochs", 0, "greater than or equal to 1"),
        (Classification, "lr", math.nan, "greater than or equal to 0"),
        (Detection, "recipe", "mine", "'task' or 'config'"),
        (Detection, "batch", 2.5, "valid integer"),
        (OpticalFlow, "augment", "heavy", "'raft' or 'light'"),
        (Translation, "precision", "fp8", "'fp32', 'bf16' or 'fp16'"),
        (Translation, "tokenizer", "spaces", "'none' or 'moses'"),
        (Translation, "bream", 4, "not permitted"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(task, setting, value, words):
    spec = Spec(task.name, "any", "quick", 0, {**task.scales["quick"], setting: value})
    with pytest.raises(ValueError, match=rf"the setting {setting} is .*{words}") as caught:
        task.settings.of(spec)
    assert len(str(caught.value).splitlines()) == 1


def test_declaring_them_imports_no_engine():
    engines = {"torch", "torchvision", "lightning_fabric", "sklearn", "PIL", "mmdet", "mmcv", "fairseq", "sacrebleu"}
    code = f"""
import sys
from nmbench_tasks import classification, detection, optical_flow, translation
assert classification.Classification().scales and detection.Detection() and optical_flow.OpticalFlow()
assert translation.Translation()
print(sorted({engines} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr

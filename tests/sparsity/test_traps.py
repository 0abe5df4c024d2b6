"""The traps that were seen in the method's first code, each by name. Numbers are those of that list.

Trap 2 (the term on a linear layer) is held by test_methods.py, 5 (flips counted, the export sparse) by test_sad.py and
test_audit.py, 7 (as many steps as the dense twin) by tests/running/test_run.py. Trap 8, a single dense run whose spread
over seeds is larger than the effect, is the report's to show.
"""

import pytest
import torch
from sparsity_toys import convnet
from torch import nn

from nmbench.sparsity import audit, nm_mask, sparsify

IMAGES = {"shape": (4, 3, 8, 8), "out": 5}


def test_trap_1_a_group_runs_along_input_channels_not_along_the_kernel():
    """3x3 kernel, 4 input channels: one group of 4 at each of 9 positions; flattened, a group straddles positions."""
    weight = torch.zeros(1, 4, 3, 3)
    weight[0, :, 1, 1] = torch.tensor([4.0, 1.0, 3.0, 2.0])
    mask = nm_mask(weight, "2:4")
    assert mask[0, :, 1, 1].tolist() == [True, False, True, False]
    assert all(mask[0, :, i, j].sum() == 2 for i in range(3) for j in range(3))
    flattened = nm_mask(torch.arange(36.0).reshape(1, 4, 3, 3), "2:4@kernel").flatten()
    assert flattened.reshape(9, 4).tolist() == [[False, False, True, True]] * 9


@pytest.mark.parametrize("channels", [5, 6, 7, 242])
def test_trap_3_a_size_that_m_does_not_divide_is_grouped_row_by_row(channels):
    """A short last group of its own in each row; flattening would let a group run into the next row."""
    model = nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1))
    handle = sparsify(model, "2:4", "ste")
    model(torch.randn(1, channels, 4, 4)).sum().backward()
    mask = handle.masks["0.weight"]
    assert (mask[:, : channels // 4 * 4].reshape(3, -1, 4, 3, 3).sum(2) == 2).all()
    assert (mask[:, channels // 4 * 4 :].sum(1) == min(2, channels % 4)).all()
    handle.finalize()
    assert audit(model, "2:4").ok


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_trap_4_ties_do_not_depend_on_chance_or_on_memory(path, memory_format):
    """Weights rounded to few values, as in low precision: the lowest index stays, in every layout."""
    weight = torch.randn(8, 16, 3, 3).round().to(memory_format=memory_format)
    masks = [nm_mask(weight.clone(memory_format=torch.preserve_format), "2:4") for _ in range(3)]
    assert all(torch.equal(masks[0], m) for m in masks)
    equal = nm_mask(torch.ones(8, 16, 3, 3).to(memory_format=memory_format), "2:4")
    assert equal[:, 0::4].all()
    assert equal[:, 1::4].all()
    assert not equal[:, 2::4].any()
    assert not equal[:, 3::4].any()


def test_trap_6_dense_and_sparse_run_the_same_model_code():
    """One class, one forward function; attached, only the value of `weight` differs."""
    model = convnet()
    before = [(type(m), type(m).forward, set(type(m).__dict__)) for m in model.modules()]
    handle = sparsify(model, "2:4", "sr-ste")
    for module, (cls, forward, _) in zip(model.modules(), before, strict=True):
        assert isinstance(module, cls)
        assert type(module).forward is forward
        assert type(module).__name__ == cls.__name__
    assert set(type(model[2]).__dict__) & {"forward", "_conv_forward", "__call__"} == set()
    handle.finalize()
    assert [(type(m), type(m).forward, set(type(m).__dict__)) for m in model.modules()] == before

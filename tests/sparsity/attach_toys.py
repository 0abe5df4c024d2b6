"""Models that are awkward to attach to, and what a bystander sees of a model."""

import copy

import torch
from sparsity_toys import masked
from torch import nn

from nmbench.sparsity.attach import is_attached

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Tied(nn.Module):
    """Two linear layers with one weight between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Fussy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        self.fail = False

    def forward(self, x):
        x = self.a(x)
        if self.fail:
            raise OSError("as told")
        return self.b(x)


def plain_twin(handle, model):
    """A deep copy of the dense model whose sparse weights are masked by the plain-Python reference."""
    twin = copy.deepcopy(model)
    from nmbench.sparsity.attach import detach

    detach(twin)
    with torch.no_grad():
        for info in handle.layers:
            if info.sparse:
                dict(twin.named_parameters())[info.name].copy_(masked(handle, info.name, model))
    assert not is_attached(twin)
    return twin


def everything(model):
    """What a checkpoint, an optimizer or a printout sees of a model."""
    return (
        [(n, id(p)) for n, p in model.named_parameters()],
        list(model.state_dict()),
        [n for n, _ in model.named_modules()],
        [n for n, _ in model.named_buffers()],
        repr(model),
    )


def bare(model):
    """Everything in a module's dictionary but its tensors and children, hooks by their number."""
    keys = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called", "_load_state_dict_post_hooks")
    return [
        (type(m), sorted(m.__dict__), [len(m.__dict__[k]) for k in keys], len(m._backward_hooks))
        for m in model.modules()
    ]

"""Models with torch's attention, for the tests of `convert`."""

import torch
from torch import nn


def attention(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(16, 4, **options).eval()
    for parameter in made.parameters():  # biases are zero in a fresh one
        nn.init.normal_(parameter, std=0.3)
    return made


class Calling(nn.Module):
    """Calls its attention with inputs of its own choice."""

    def __init__(self, inner: nn.MultiheadAttention, **kwargs):
        super().__init__()
        self.attn, self.kwargs = inner, kwargs

    def forward(self, query, *others):
        key, value = (*others, *others)[:2] if others else (query, query)
        return self.attn(query, key, value, **self.kwargs)


def same(got, right):
    assert (got is None) == (right is None)
    if right is not None:
        assert got.shape == right.shape
        torch.testing.assert_close(got, right, rtol=1e-5, atol=1e-5)

"""A network with every kind of layer that a method may meet, and methods that show what a hook does."""

import torch
from torch import Tensor, nn

from nmbench.sparsity import Method, two_sided

#: settings under which a method does in a dozen steps what it does in a training
SHORT = {
    "s-ste": {},
    "step": {},
    "decaying-mask": {},
    "fst": {"every": 3},
    "transposable": {"every": 3},
    "nm-rigl": {"every": 3},
    "nm-set": {"every": 3},
    "gmp": {"every": 2},
    "bi-mask": {"every": 3, "tries": 4},
    "slope": {"lora": 0.5, "rank": 2},
    "ast": {"every": 3},
    "ast-slorb": {"every": 3, "block": 4},
    "lbc": {},
    "maxq": {},
    "maskllm": {},
    "proxsparse": {"strength": 1e-3},
    "vnm": {"every": 3, "v": 4},
    "domino": {"search": 0.5, "every": 2},
}


class Zoo(nn.Module):
    """Convolutions: plain, grouped, transposed, circular and of padding "same"; attention to itself and to others; tied
    linear layers; a frozen one; groups that M does not divide. Inputs: (batch, 8, 6, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(8, 12, 3, padding="same")
        self.grouped = nn.Conv2d(12, 16, 2, groups=2, padding_mode="circular", padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, groups=2, stride=2)
        self.mix = nn.Linear(8, 8)
        self.tied = nn.Linear(8, 8, bias=False)
        self.tied.weight = self.mix.weight
        self.frozen = nn.Linear(8, 10).requires_grad_(False)
        self.short = nn.Linear(10, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.up(torch.tanh(self.grouped(torch.tanh(self.plain(images)))))[:, :, :4, :4]
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = self.short(torch.tanh(self.frozen(torch.tanh(self.tied(torch.tanh(self.mix(tokens)))))))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.attention(tokens[:, :3], tokens, tokens.flip(1))[0].mean(1, keepdim=True)
        return self.head(tokens.mean(1))


def zoo(dtype: torch.dtype = torch.float32) -> Zoo:
    torch.manual_seed(5)
    return Zoo().to(dtype)


def step_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, number: int, parts: int = 1, part: int | None = None
) -> float:
    """One optimizer step on a batch that the number names, in so many micro-batches; or on one half of it."""
    made = torch.Generator().manual_seed(number)
    images, wanted = torch.randn(8, 8, 6, 6, generator=made), torch.randn(8, 4, generator=made)
    if part is not None:
        images, wanted = images.chunk(2)[part], wanted.chunk(2)[part]
    dtype = next(model.parameters()).dtype
    optimizer.zero_grad()
    total = 0.0
    for some, target in zip(images.to(dtype).chunk(parts), wanted.to(dtype).chunk(parts), strict=True):
        loss = nn.functional.mse_loss(model(some), target) / parts
        loss.backward()
        total += float(loss.detach())
    optimizer.step()
    return total


class Doubling(Method):
    """Doubles the gradient to the inputs of each layer, and nothing else."""

    name = "doubling"

    def product(self, layer, inputs, weight, base):
        return two_sided(inputs, weight, back=2 * weight, base=base)


class Plain(Method):
    """The product by the helper, as autograd would have it."""

    name = "plain"

    def product(self, layer, inputs, weight, base):
        return two_sided(inputs, weight, base=base)

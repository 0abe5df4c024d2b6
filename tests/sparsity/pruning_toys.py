"""Networks for the tests of pruning and permutation; each the same at every call, in evaluation mode."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions around a batch normalisation, and the input added."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


class Images(nn.Module):
    """(8, 3, 12, 12) -> (8, 4). Every kind of convolution, and a layer with a short group (13)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(Residual(16), Residual(16, groups=2))
        self.middle = nn.Conv2d(16, 10, 1)
        self.up = nn.ConvTranspose2d(10, 8, 3, stride=2, groups=2, output_padding=1, padding=1)
        self.hidden, self.head = nn.Linear(8, 13), nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(torch.relu(self.middle(self.blocks(self.stem(x)))))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


class Text(nn.Module):
    """(4, 7) token ids -> (4, 7, 20); torch's own encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3)
        self.head = nn.Linear(16, 20)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(ids)))


def made(network: Callable[[], nn.Module]) -> nn.Module:
    """With weights and running statistics that are no defaults."""
    torch.manual_seed(0)
    model = network().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.3), (module.running_var, 0.5), (module.weight.data, 0.5)):
                assert tensor is not None
                tensor.uniform_(low, low + 1)
    return model


def images(batches: int = 3) -> list[Tensor]:
    return [torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(i)) for i in range(batches)]


def tokens(batches: int = 3) -> list[Tensor]:
    return [torch.randint(0, 20, (4, 7), generator=torch.Generator().manual_seed(i)) for i in range(batches)]

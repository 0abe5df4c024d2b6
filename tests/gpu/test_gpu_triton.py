"""The Triton products on a real GPU against float64, and its storage against the CPU's, bit for bit."""

import pytest
import torch
from gpu import NEEDS_GPU

from nmbench.kernels.nmtensor import compress, decompress
from nmbench.sparsity import NMPattern, nm_mask

pytest.importorskip("triton")
pytestmark = NEEDS_GPU
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def near(got: torch.Tensor, expected: torch.Tensor) -> None:
    bound = TOLERANCE[got.dtype]
    torch.testing.assert_close(got.double(), expected, rtol=bound, atol=bound * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [*TOLERANCE, torch.int8, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("shape", [(300, 512), (72, 242), (40, 64, 3, 3), (40, 18, 3, 3)], ids=str)
@pytest.mark.parametrize("text", ["2:4", "1:4", "2:8", "4:8", "1:16", "3:5", "1:1", "7:64", "2:4@kernel"])
def test_storage(text: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    pattern = NMPattern.parse(text)
    weight = torch.randn(shape)
    weight = (weight * nm_mask(weight, pattern) * 20).clamp(-127, 127).to(dtype)
    expected = compress(weight, pattern)
    formats = [torch.contiguous_format, *([torch.channels_last] if len(shape) == 4 else [])]
    for memory_format in formats:
        stored = compress(weight.cuda().to(memory_format=memory_format), pattern)
        assert torch.equal(stored.values.cpu().view(torch.uint8), expected.values.view(torch.uint8))
        assert torch.equal(stored.positions.cpu(), expected.positions)
        assert torch.equal(decompress(stored).cpu().view(torch.uint8), decompress(expected).view(torch.uint8))


def test_storage_finds_a_group_with_too_many() -> None:
    weight = torch.zeros(512, 4096, device="cuda", dtype=torch.bfloat16)
    weight[300, 40:43] = 1.0
    with pytest.raises(ValueError, match=r"fc: the group of inputs 40 to 43 of output \(300\) has 3"):
        compress(weight, "2:4", "fc")


def test_a_size_that_is_first_met_in_a_capture() -> None:
    """It takes the nearest choice, whose kernel is loaded, and is tuned when it is met outside."""
    from nmbench.kernels.triton import ops
    from nmbench.kernels.triton.matmul import matmul_kernel

    pattern, shape = NMPattern(2, 4), (112, 160)
    weight = torch.randn(shape)
    stored = compress((weight * nm_mask(weight, pattern)).to("cuda", torch.float16), pattern)

    def run(x: torch.Tensor) -> torch.Tensor:
        return ops.linear(x, stored.values, stored.positions, None, shape[0], 2, 4)

    run(torch.randn(64, 160, device="cuda", dtype=torch.float16))
    x = torch.randn(500, 160, device="cuda", dtype=torch.float16)  # 16 does not divide it
    known, graph = dict(matmul_kernel.cache), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = run(x)
    assert matmul_kernel.cache == known
    graph.replay()
    near(y, x.double() @ decompress(stored).double().t())
    run(x)
    assert len(matmul_kernel.cache) == len(known) + 1

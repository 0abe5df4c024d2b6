"""One product or convolution with an N:M weight, by whichever backend takes it."""

from torch import Tensor

from nmbench._util.devices import on
from nmbench.kernels import registry
from nmbench.kernels.backend import Backend, Problem, refused, result_dtype
from nmbench.kernels.nmtensor import NMTensor, compress, decompress, inferred
from nmbench.kernels.packed import PackedWeight
from nmbench.kernels.problem import Pair, conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern
from nmbench.sparsity.pattern import PatternLike

Weight = Tensor | NMTensor | PackedWeight


def linear(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None = None,
    *,
    pattern: PatternLike | None = None,
    backend: str | Backend | None = None,
) -> Tensor:
    """x W^T + bias.

    Args:
        x: (..., in), of the weight's dtype, on its device.
        weight: (out, in): baked; or compressed; or what `pack` made of one, which alone is not packed at each call.
        bias: (out,) or None.
        pattern: what the weight keeps to; read off the weight if None.
        backend: by name, or one of your own; if None the first that takes the weight: cusparselt, cutlass, triton,
            those of other packages, dense. Nothing is timed: `convert` does that.

    Returns:
        (..., out), of x's dtype; int32 for int8, bfloat16 for 8-bit floats.

    Raises:
        ValueError: the named backend is not there or refuses, or the weight breaks the pattern.
    """
    packed = weight
    if not isinstance(packed, PackedWeight):
        packed = pack(packed, tuple(x.shape), pattern=pattern, backend=backend)
    if bias is not None and bias.is_floating_point() and not result_dtype(packed.problem.dtype).is_floating_point:
        raise ValueError(f"a bias of {bias.dtype} cannot be added to sums of integers: give one of int32")
    return packed.linear(x, bias)


def conv2d(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    *,
    pattern: PatternLike | None = None,
    backend: str | Backend | None = None,
) -> Tensor:
    """As torch.nn.functional.conv2d; weight, pattern, backend and what is raised as in `linear`.

    A weight that was packed has its own stride, padding, dilation and groups; those given here do not count.

    Args:
        x: (N, in, H, W), best in channels_last.
        weight: (out, in / groups, kh, kw).
        bias: (out,) or None.
        stride, padding, dilation: one number or (height, width).
        groups: of the convolution.

    Returns:
        (N, out, H', W').
    """
    if isinstance(weight, PackedWeight):
        return weight.conv2d(x, bias)
    size = tuple(x.shape)
    packed = pack(
        weight, size, pattern=pattern, backend=backend, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return packed.conv2d(x, bias)


def pack(
    weight: Tensor | NMTensor,
    x: tuple[int, ...],
    *,
    pattern: PatternLike | None = None,
    backend: str | Backend | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> PackedWeight:
    """The weight in the form that a backend reads, for inputs of shape `x` (its leading sizes may vary later).

    Arguments and what is raised as in `linear` and `conv2d`.
    """
    dense = decompress(weight) if isinstance(weight, NMTensor) else weight.detach()
    if dense.dim() not in (2, 4):
        raise ValueError(f"a weight of 2 or 4 dimensions is needed, not {dense.dim()}")
    given = weight.pattern if isinstance(weight, NMTensor) else None if pattern is None else NMPattern.parse(pattern)
    if dense.dim() == 4 and len(x) != 4:
        raise ValueError(f"an input of 4 dimensions (N, in, H, W) is needed, not of {len(x)}")
    if pattern is not None and given is not None:
        compress(dense, given)  # says which group breaks it
    keeps = given or inferred(dense) or NMPattern(1, 1)
    if dense.dim() == 2:
        problem = linear_problem(tuple(dense.shape), x, keeps, dense.dtype, dense.device)
    else:
        pairs = (_pair("stride", stride, 1), _pair("padding", padding, 0), _pair("dilation", dilation, 1))
        problem = conv2d_problem(tuple(dense.shape), x, keeps, dense.dtype, dense.device, *pairs, groups)
    return _packed(dense, problem, backend)


def _packed(weight: Tensor, problem: Problem, backend: str | Backend | None) -> PackedWeight:
    """By the named backend, or by the first that takes it. Raises ValueError if none does, with each one's reason."""
    if backend is None:
        asked = [one.backend for one in registry.backends().values() if one.backend is not None]
    else:
        asked = [registry.load(backend) if isinstance(backend, str) else backend]
    reasons = []
    for candidate in asked:
        with on(weight.device):
            reason: str | None = refused(candidate, problem)
        if reason is None:
            try:
                return PackedWeight(weight, problem, candidate)
            except ValueError as error:
                reason = str(error)
        reasons.append(f"{candidate.name}: {reason}")
    raise ValueError("; ".join(reasons))


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else value
    if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(one, int) and one >= least for one in pair):
        raise ValueError(f"{name} is {value!r}: give a whole number from {least} on, or (height, width)")
    return pair

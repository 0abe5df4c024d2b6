"""What a backend of the dispatcher is: it says whether it can run a problem, packs a weight for it, and runs it.

Backend         one way to multiply with an N:M weight: subclass this
Refusal, Kind   why it does not run a problem
refused         its refusal, also where asking fails
DEPTHWISE, no_gpu   refusals that several backends give
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from nmbench._util.errors import first_line
from nmbench.kernels.problem import Problem, Settings, dtype_name, is_float8, result_dtype
from nmbench.sparsity import NMPattern

__all__ = ["DEPTHWISE", "Backend", "Kind", "Problem", "Refusal", "Settings", "no_gpu", "refused", "result_dtype"]


class Kind(Enum):
    """What a refusal is about."""

    NEEDS_GPU = "needs a GPU"
    MACHINE = "this GPU, or a library that is not here"
    DTYPE = "the dtype"
    SHAPE = "the sizes"
    PATTERN = "the pattern, or a weight that breaks it"
    FAULT = "the backend failed, or its numbers are wrong"
    OTHER = "in the words of a backend of anyone's"


class Refusal(str):
    """Why a layer does not run by a backend: words for people, with a `kind` for programs.

    It is the text itself, so that a backend may as well return a plain string; `refused` makes that one of these.
    """

    kind: Kind

    def __new__(cls, words: str, kind: Kind = Kind.OTHER) -> Refusal:
        """words: without a full stop."""
        made = super().__new__(cls, words)
        made.kind = kind
        return made


DEPTHWISE = Refusal("depthwise: no reduction over channels", Kind.SHAPE)


def no_gpu(problem: Problem) -> Refusal | None:
    """Why the problem's device has no tensor cores for it: they come with 8.0, those for 8-bit floats with 8.9."""
    if problem.device != "cuda":
        return Refusal(f"needs a GPU, not {problem.device}", Kind.NEEDS_GPU)
    least = (8, 9) if is_float8(problem.dtype) else (8, 0)
    if problem.capability >= least:
        return None
    return Refusal(f"{dtype_name(problem.dtype)} needs compute capability {least[0]}.{least[1]} or newer", Kind.MACHINE)


class Bound(Protocol):
    """The product with one weight."""

    def __call__(self, x: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
        """As `Backend.linear` or `Backend.conv2d`; addend, relu: as `Backend.fuses` says."""


class Backend(ABC):
    """One way to multiply with an N:M weight; `name` is what a report calls it."""

    name: ClassVar[str] = ""
    #: do its products take `addend` (a tensor that is added to the result) and `relu` (True: as the last step)?
    fuses: ClassVar[bool] = False

    @abstractmethod
    def refusal(self, problem: Problem) -> str | None:
        """None if this backend can run `problem`, else a `Refusal` (or a few plain words). Cheap; never raises."""

    @abstractmethod
    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """The weight in the form that this backend reads; the tensors become buffers of the converted layer.

        weight: baked (pruned entries are zero), of shape `problem.weight`.
        Raises ValueError if the weight breaks what the backend needs.
        """

    @abstractmethod
    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (..., in) -> (..., out)."""

    @abstractmethod
    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W'). `refusal` says so where a backend has no convolution."""

    def run(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """Whichever of the two the problem is."""
        return (self.linear if problem.kind == "linear" else self.conv2d)(x, packed, bias, problem)

    def prepare(self, patterns: Iterable[NMPattern]) -> None:  # noqa: B027 - most have nothing to do
        """Compile what weights of these patterns will need, several at once; `convert` asks before it asks for one."""

    def bound(self, packed: Mapping[str, Tensor], problem: Problem) -> Bound | None:
        """`run` with this weight, as a function of x, bias, addend and relu; None where nothing is saved by it.

        It is called where no one watches torch operations (torch.compile, a dispatch mode), and may go past them.
        """
        return None

    def variants(
        self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem
    ) -> list[Settings]:
        """Settings worth timing for this problem, the default first. `problem.settings` then is one of them."""
        return [()]

    def unpack(self, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
        """The weight that was packed, of shape `problem.weight`: by default, the product with unit vectors."""
        device = next(iter(packed.values())).device
        problem = replace(problem, settings=())  # those were found for another number of rows
        if problem.kind == "linear":
            eye = torch.eye(problem.weight[1], device=device).to(problem.dtype)
            return self.linear(eye, packed, None, problem).t().contiguous().to(problem.dtype)
        _, depth, kh, kw = problem.weight
        # image (i, r, s) is one at pixel (r, s) of channel i of every group, so that it meets one weight of each filter
        unit = torch.eye(depth * kh * kw, device=device).to(problem.dtype).view(-1, depth, kh, kw)
        plain = replace(problem, stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        y = self.conv2d(unit.repeat(1, problem.groups, 1, 1), packed, None, plain)
        return y.flatten(1).t().reshape(problem.weight).contiguous().to(problem.dtype)


def refused(backend: Backend, problem: Problem) -> Refusal | None:
    """`backend.refusal(problem)`; a backend of anyone's may raise anything there, which is a refusal too."""
    try:
        words = backend.refusal(problem)
    except Exception as error:
        return Refusal(f"its refusal() raised {first_line(error)}", Kind.FAULT)
    return words if words is None or isinstance(words, Refusal) else Refusal(str(words))

"""Backends for the benchmark's tests: one that is right, and one for each way to go wrong."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.backend import Backend, Problem


class Plain(Backend):
    """The masked weight through torch: right, on any device."""

    name = "plain"

    def refusal(self, problem: Problem) -> str | None:
        return "no 1:16 here" if str(problem.pattern) == "1:16" else None

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        return {"weight": weight}

    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        return F.linear(x, packed["weight"], bias)

    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        return F.conv2d(x, packed["weight"], bias, problem.stride, problem.padding, problem.dilation, problem.groups)


class Wrong(Plain):
    """Off by a little more than bf16 may be."""

    name = "wrong"

    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        return 1.05 * super().linear(x, packed, bias, problem)


class Broken(Plain):
    name = "broken"

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        raise RuntimeError("no such library\nand more")


TOYS: dict[str, Any] = {cls.name: cls() for cls in (Plain, Wrong, Broken)}

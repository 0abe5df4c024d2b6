"""A weight packed for one backend, as a module: it moves, copies, pickles, saves and loads.

What backends read may depend on the GPU and on a library's version, so it never leaves the process: a state dict and a
pickle hold the compressed form of nmbench.kernels.nmtensor, and a move to another device or dtype packs anew. Where the
backend cannot run after a move (a CPU, say), the weight is held dense, and runs so, until it is moved back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nmbench._util.devices import on
from nmbench.kernels.backend import Backend, Bound, Problem, Settings, refused
from nmbench.kernels.backends.dense import Dense
from nmbench.kernels.cache import fingerprint
from nmbench.kernels.nmtensor import NMTensor, check, compress, decompress
from nmbench.kernels.problem import dtype_name
from nmbench.sparsity import NMPattern
from nmbench.sparsity.memory import watched

#: what a file holds of a weight: see nmbench.kernels.nmtensor; `pattern` is (N, M), and a third 1 for the axis "kernel"
PARTS = ("values", "positions", "pattern")


def parts_of(stored: NMTensor) -> list[Tensor]:
    """The tensors of `PARTS`."""
    axis = [1] if stored.pattern.axis == "kernel" else []
    return [stored.values, stored.positions, torch.tensor([stored.pattern.n, stored.pattern.m, *axis])]


def from_parts(parts: list[Tensor], shape: tuple[int, ...]) -> NMTensor:
    """The way back. Raises ValueError if the parts are not of a weight of `shape`."""
    values, positions, pattern = parts
    numbers = pattern.flatten().tolist()
    if numbers[2:] not in ([], [1]) or len(numbers) < 2 or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{numbers} is no pattern")
    keeps = NMPattern(numbers[0], numbers[1], "kernel" if numbers[2:] == [1] else "input")
    stored = NMTensor(values, positions, keeps, tuple(shape))
    check("its weight", stored)
    return stored


def _same(before: Tensor, after: Tensor | None) -> bool:
    return after is before or (after is not None and torch.equal(before, after))


def _usable(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.is_inference() else tensor


class _Product(NamedTuple):
    """What a backend made for tensors of which one is called `name`; it holds while that and the problem are held."""

    tensor: Tensor | None
    name: str
    problem: Problem
    product: Bound | None


class PackedWeight(nn.Module):
    """A weight of `problem.weight`, packed for `backend`.

    Attributes:
        problem: what it was packed for; its input's leading sizes may differ from call to call.
        backend: the one that was chosen. running: the one that runs now: `backend`, or dense where it cannot.
        refusal: why `backend` does not run now, or "".
        settings, tuned_on: what the backend was tuned to, and the machine (see nmbench.kernels.cache) of which that
            holds; on another one the backend's default runs.
    """

    #: of the last call
    _bound: _Product | None = None

    def __init__(self, weight: Tensor, problem: Problem, backend: Backend) -> None:
        """weight: baked, of shape `problem.weight`. Raises ValueError if it breaks what the backend needs."""
        super().__init__()
        self.problem = problem
        self.backend = backend
        self.settings: Settings = problem.settings
        self.tuned_on = fingerprint(weight.device)
        self._hold(weight.detach())

    def _hold(self, weight: Tensor) -> None:
        problem = self.problem.on(weight.device, weight.dtype)
        problem = replace(problem, settings=self.settings if self.tuned_on == fingerprint(weight.device) else ())
        # a backend is asked of the current GPU; tensors made in inference mode could not be used outside
        with on(weight.device), torch.inference_mode(False), torch.no_grad():
            refusal = refused(self.backend, problem) or ""
            running = Dense() if refusal else self.backend
            packed = {key: _usable(tensor) for key, tensor in running.pack(weight, problem).items()}
        for key in list(self._buffers):
            delattr(self, key)
        for key, tensor in packed.items():
            self.register_buffer(f"packed_{key}", tensor, persistent=False)
        self.problem, self.running, self.refusal = problem, running, refusal
        self._names = tuple(packed)
        self.device = weight.device

    # -- what it is ---------------------------------------------------------------------------------------------
    def tensors(self) -> dict[str, Tensor]:
        """What the running backend reads."""
        return {name: getattr(self, f"packed_{name}") for name in self._names}

    @property
    def weight(self) -> Tensor:
        """The dense weight, made anew by the backend at each access."""
        with torch.inference_mode(False), torch.no_grad():
            return self.running.unpack(self.tensors(), self.problem)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes on its device."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def extra_repr(self) -> str:
        """Backend, pattern, and why it does not run if so."""
        why = f", running dense: {self.refusal}" if self.refusal else ""
        return f"{self.backend.name}, {self.problem.pattern}, {dtype_name(self.problem.dtype)}{why}"

    # -- the product --------------------------------------------------------------------------------------------
    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., in) -> (..., out)."""
        return self.running.linear(x, self.tensors(), bias, self.problem)

    def conv2d(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W')."""
        return self.running.conv2d(x, self.tensors(), bias, self.problem)

    def product(self, x: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False) -> Tensor:
        """x (..., in) -> (..., out), or (N, in, H, W) -> (N, out, H', W').

        addend: what is added to it, of its shape. relu: what is negative becomes zero, after that.
        """
        if not watched():
            held = self._bound
            if held is None or held.tensor is not self._buffers.get(held.name) or held.problem is not self.problem:
                held = self._bind()
            if held.product is not None:
                return held.product(x, bias, addend, relu)
        if addend is None and not relu:
            return self.running.run(x, self.tensors(), bias, self.problem)
        if self.running.fuses:
            run = self.running.linear if self.problem.kind == "linear" else self.running.conv2d
            return run(x, self.tensors(), bias, self.problem, addend=addend, relu=relu)  # type: ignore[call-arg]
        y = self.running.run(x, self.tensors(), bias, self.problem)
        y = y if addend is None else y + addend
        return y.relu() if relu else y

    def _bind(self) -> _Product:
        name = f"packed_{self._names[0]}"
        product = self.running.bound(self.tensors(), self.problem)
        made = self._bound = _Product(self._buffers[name], name, self.problem, product)
        return made

    # -- moves, copies, files -----------------------------------------------------------------------------------
    def stored(self) -> NMTensor:
        """The weight in the form that files hold."""
        return compress(self.weight, self.problem.pattern)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedWeight:
        probe = fn(torch.empty(0, dtype=self.problem.dtype, device=self.device))
        if (probe.device, probe.dtype) == (self.device, self.problem.dtype):
            held = dict(self._buffers)
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            # `to_empty` leaves anything in them, of which a kernel would take positions
            self._buffers.update({k: v for k, v in held.items() if v is not None and not _same(v, self._buffers[k])})
            return self
        if probe.device.type == "meta":
            raise ValueError("a converted layer holds packed weights and cannot be moved to the meta device")
        self._hold(fn(self.weight))
        return self

    def __getstate__(self) -> dict[str, Any]:
        stored = self.stored()
        return {**self.__dict__, "_buffers": {}, "_bound": None, "_stored": (stored.values, stored.positions)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values, positions = state.pop("_stored")
        stored = NMTensor(values, positions, state["problem"].pattern, state["problem"].weight)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._hold(decompress(stored))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        stored = self.stored()
        destination.update(zip([prefix + part for part in PARTS], parts_of(stored), strict=True))

    def _load_from_state_dict(  # type: ignore[no-untyped-def]
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        missing = [prefix + part for part in PARTS if prefix + part not in state_dict]
        if missing:
            missing_keys.extend(missing if strict else [])
            return
        before = self.problem
        try:
            stored = from_parts([state_dict[prefix + part] for part in PARTS], before.weight)
            self.problem = replace(before, pattern=stored.pattern)
            self._hold(decompress(stored.to(self.device)).to(before.dtype))
        except (ValueError, RuntimeError) as error:
            self.problem = before
            error_msgs.append(f"{prefix[:-1]}: {error}")

    def tuned(self, settings: Settings, machine: str = "") -> PackedWeight:
        """Itself, tuned to `settings` of its backend, which hold on `machine` (by default the one that it is on)."""
        here = fingerprint(self.device)
        self.settings, self.tuned_on = settings, machine or here
        self.problem = replace(self.problem, settings=settings if self.tuned_on == here else ())
        return self

    def clone(self) -> PackedWeight:
        """A copy with memory of its own, of the packed form."""
        other = PackedWeight.__new__(PackedWeight)
        copied = {f"packed_{name}": tensor.clone() for name, tensor in self.tensors().items()}
        other.__dict__ = {**self.__dict__, "_buffers": copied, "_bound": None}
        return other

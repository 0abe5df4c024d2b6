"""What `prune` says of a model: by layer what was lost, and the audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nmbench.sparsity.allocation import Patterns
from nmbench.sparsity.audits import AuditReport
from nmbench.sparsity.select import LayerInfo

if TYPE_CHECKING:
    from nmbench.sparsity.permutation import PermutationReport


@dataclass(frozen=True)
class LayerReport:
    """One candidate weight.

    Attributes:
        name, shape: of the parameter. reason: why it was left dense; "" where it was pruned.
        density: non-zeros / weights.
        error: squared norm of what the layer's output lost on the calibration data, as a share of that of its output;
            None where it was not measured.
        damp: the damping that its singular Hessian took, where that was more than asked for.
    """

    name: str
    shape: tuple[int, ...]
    reason: str = ""
    density: float = 1.0
    error: float | None = None
    damp: float | None = None

    @property
    def pruned(self) -> bool:
        """Does it keep the pattern?"""
        return not self.reason


@dataclass(frozen=True)
class PruningReport:
    """All weights, and the audit of the pruned model.

    sequences: the number of calibration examples. lines: what is sparse now, as `audit` and `cost` take it.
    """

    pattern: Patterns
    pruner: str
    sequences: int
    layers: tuple[LayerReport, ...]
    lines: tuple[LayerInfo, ...]
    audit: AuditReport
    permutation: PermutationReport | None = field(default=None)

    @property
    def error(self) -> float | None:
        """Mean of the layers' errors; None where none was measured."""
        errors = [layer.error for layer in self.layers if layer.error is not None]
        return sum(errors) / len(errors) if errors else None

    def __str__(self) -> str:
        """A line for each layer."""
        width = max([len(layer.name) for layer in self.layers], default=0)
        lines = [f"{self.pruner} {self.pattern}, {self.sequences} examples of calibration"]
        for layer in self.layers:
            error = "" if layer.error is None else f", error {layer.error:.4f}"
            lines.append(f"{layer.name:<{width}}  {layer.reason or f'density {layer.density:.3f}{error}'}")
        return "\n".join(lines)

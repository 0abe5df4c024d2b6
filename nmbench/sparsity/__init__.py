"""The shared N:M core. Imports torch only, knows no task, and can be used in any training script.

NMPattern     "2:4", "1:16", "4:8@kernel"
nm_mask       weight -> bool mask, exact and deterministic
sparsify      model -> Handle: masks, the method's gradient term, SAD, finalize
audit         from the weights alone: density, and groups that break the pattern
multiplied    which weights multiply as sparse as they are, by one forward pass
cost          parameters, non-zeros, MACs, bytes
Method        the contract of a training method (entry-point group nmbench.methods)

Names are imported when they are first used (PEP 562), so that a pattern can be read where torch is not wanted.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmbench.sparsity.audits import AuditReport, LayerAudit, Outcome, audit, multiplied
    from nmbench.sparsity.costs import Cost, LayerCost, cost
    from nmbench.sparsity.entry import NothingSparseError, sparsify
    from nmbench.sparsity.flips import SAD
    from nmbench.sparsity.gradients import Product, ste, two_sided
    from nmbench.sparsity.handle import Handle
    from nmbench.sparsity.kept_mask import DENSE, FOLLOW, HOLD, KEEP
    from nmbench.sparsity.layer import Layer
    from nmbench.sparsity.mask import NonFiniteWeightError, nm_mask
    from nmbench.sparsity.methods.base import Method
    from nmbench.sparsity.pattern import NMPattern
    from nmbench.sparsity.select import LayerInfo, default_candidates

__all__ = [
    "DENSE",
    "FOLLOW",
    "HOLD",
    "KEEP",
    "SAD",
    "AuditReport",
    "Cost",
    "Handle",
    "Layer",
    "LayerAudit",
    "LayerCost",
    "LayerInfo",
    "Method",
    "NMPattern",
    "NonFiniteWeightError",
    "NothingSparseError",
    "Outcome",
    "Product",
    "audit",
    "cost",
    "default_candidates",
    "multiplied",
    "nm_mask",
    "sparsify",
    "ste",
    "two_sided",
]

_HOMES = {
    "audits": ("AuditReport", "LayerAudit", "Outcome", "audit", "multiplied"),
    "costs": ("Cost", "LayerCost", "cost"),
    "flips": ("SAD",),
    "entry": ("NothingSparseError", "sparsify"),
    "gradients": ("Product", "ste", "two_sided"),
    "handle": ("Handle",),
    "kept_mask": ("DENSE", "FOLLOW", "HOLD", "KEEP"),
    "layer": ("Layer",),
    "mask": ("NonFiniteWeightError", "nm_mask"),
    "methods.base": ("Method",),
    "pattern": ("NMPattern",),
    "select": ("LayerInfo", "default_candidates"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nmbench.sparsity' has no attribute {name!r}")
    value = getattr(import_module(f"nmbench.sparsity.{_HOME[name]}"), name)
    globals()[name] = value
    return value

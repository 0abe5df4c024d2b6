"""The shared N:M core. Imports torch only, knows no task, and can be used in any training script.

NMPattern     "2:4", "1:16", "4:8@kernel"
nm_mask       weight -> bool mask, exact and deterministic
sparsify      model -> Handle: masks, the method's gradient term, SAD, finalize
audit         from the weights alone: density, and groups that break the pattern
cost          parameters, non-zeros, MACs, bytes
Method        the contract of a training method (entry-point group nmbench.methods)
"""

from nmbench.sparsity.audit import AuditReport, LayerAudit, audit
from nmbench.sparsity.cost import Cost, LayerCost, cost
from nmbench.sparsity.flips import SAD
from nmbench.sparsity.handle import Handle, sparsify
from nmbench.sparsity.mask import NonFiniteWeightError, nm_mask
from nmbench.sparsity.methods.base import DENSE, FOLLOW, HOLD, Method
from nmbench.sparsity.pattern import NMPattern
from nmbench.sparsity.select import LayerInfo, default_candidates

__all__ = [
    "DENSE",
    "FOLLOW",
    "HOLD",
    "SAD",
    "AuditReport",
    "Cost",
    "Handle",
    "LayerAudit",
    "LayerCost",
    "LayerInfo",
    "Method",
    "NMPattern",
    "NonFiniteWeightError",
    "audit",
    "cost",
    "default_candidates",
    "nm_mask",
    "sparsify",
]

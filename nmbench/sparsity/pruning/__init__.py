"""Post-training pruning: an N:M pattern on a trained model, from a little data and without training.

prune        any model, block by block, by any pruner -> PruningReport
Pruner       the contract of a pruner (entry-point group nmbench.pruners); Statistics, what it is told of the inputs
load, names  installed pruners
"""

from nmbench.sparsity.pruning.base import Pruner, Statistics
from nmbench.sparsity.pruning.calibration import CalibrationError
from nmbench.sparsity.pruning.columns import Columns
from nmbench.sparsity.pruning.driver import prune
from nmbench.sparsity.pruning.registry import load, names
from nmbench.sparsity.pruning.report import LayerReport, PruningReport

__all__ = [
    "CalibrationError",
    "Columns",
    "LayerReport",
    "Pruner",
    "PruningReport",
    "Statistics",
    "load",
    "names",
    "prune",
]

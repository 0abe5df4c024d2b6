"""dense: no sparsity. The mask is a shadow: it shows how an N:M topology would move (SAD) and changes nothing."""

from nmbench.sparsity.methods.base import DENSE, Method


class Dense(Method):
    """Train the model as it is."""

    name = "dense"
    sparse = False

    def rule(self, phase: int, step: int) -> str:
        """Always dense."""
        return DENSE

"""ste: forward with the masked weight, the gradient of the masked weight goes to the dense one unchanged.

W <- W - lr * g(W~),  W~ = E * W   (Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch)
"""

from nmbench.sparsity.methods.base import Method


class STE(Method):
    """Straight-through estimator: the mask follows the weights, no term is added to the gradient."""

    name = "ste"

"""Methods that break one promise each; the class is named for the check that catches it."""

from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.methods.base import FOLLOW, HOLD, Method
from nmbench.sparsity.methods.sr_ste import SRSTE


class MethodIsDeclared(Method):
    """Takes any setting."""

    name = "bad"

    def __init__(self, **hyper):
        super().__init__()


class RuleIsKnown(Method):
    """Answers with a word that nobody knows, late in training."""

    name = "bad"

    def rule(self, phase, step):
        return "perhaps" if step > 40 else FOLLOW


class GradientIsAsDeclared(SRSTE):
    """Its decay has the wrong sign."""

    name = "bad"

    def gradient(self, grad, weight, mask):
        grad.sub_(self.hyper["lambda_w"] * (~mask) * weight)


class PatternIsKept(Method):
    """Says that it leaves a dense network, and prunes it."""

    name = "bad"
    sparse = False

    def rule(self, phase, step):
        return HOLD


class LayersKeepPatternsOfTheirOwn(Method):
    """Makes all masks by the pattern of the first layer."""

    name = "bad"

    def mask(self, layer, weight):
        self.first = getattr(self, "first", layer.pattern)
        return torch_mask(weight, self.first, layer.grouping)


class EqualNAndMIsHarmless(Method):
    """Decays every weight, the kept ones too."""

    name = "bad"

    def gradient(self, grad, weight, mask):
        grad.add_(weight, alpha=1e-2)


class StateIsResumed(Method):
    """Counts its own steps, and forgets them when it is saved."""

    name = "bad"

    def gradient(self, grad, weight, mask):
        self.count = getattr(self, "count", 0) + 1
        if not mask.all():
            grad.mul_(1.0 + 0.01 * self.count)


class NothingIsDrawn(Method):
    """Adds noise from the global generator to pruned weights' gradients."""

    name = "bad"

    def gradient(self, grad, weight, mask):
        import random

        random.random()


class HoldsFromTheStart(Method):
    """No fault: a held mask."""

    name = "good"

    def rule(self, phase, step):
        return HOLD

    def gradient(self, grad, weight, mask):
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad, weight, mask):
        return grad * mask

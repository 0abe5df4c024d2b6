"""One optimizer, several, wrapped ones: the term enters once, and a step is one step."""

import warnings

import pytest
import torch
from sparsity_toys import loss_of, mlp, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify

TERM = 0.5


def fresh(method="sr-ste"):
    model = mlp()
    return model, sparsify(model, "2:4", method, **({"lambda_w": TERM} if method == "sr-ste" else {}))


def reference(steps=range(4), method="sr-ste"):
    model, handle = fresh(method)
    optimizer = sgd(model)
    handle.bind(optimizer)
    train(model, optimizer, steps)
    return model, handle


def split(model):
    """Two optimizers like `sgd`, over the first layer and the rest."""
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    parameters = list(model.parameters())
    return torch.optim.SGD(parameters[:1], **settings), torch.optim.SGD(parameters[1:], **settings)


def steps_of(model, optimizers, steps=range(4)):
    for step in steps:
        model.zero_grad()
        loss_of(model, step).backward()
        for optimizer in optimizers:
            optimizer.step()


def assert_as_reference(model, handle, method="sr-ste"):
    expected, other = reference(method=method)
    torch.testing.assert_close(weights(model), weights(expected))
    assert handle.steps == other.steps == 4
    assert handle.sad.history == other.sad.history


@pytest.mark.parametrize("method", ["sr-ste", "one-shot"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("order", [1, -1])
def test_two_optimizers_equal_one(method, at_once, order):
    model, handle = fresh(method)
    optimizers = split(model)
    if at_once:
        handle.bind(*optimizers)
    else:
        with pytest.warns(UserWarning, match=r"no bound optimizer holds these sparse weights: 2\.weight"):
            handle.bind(optimizers[0])
        handle.bind(optimizers[1])
    steps_of(model, optimizers[::order])
    assert_as_reference(model, handle, method)


def test_a_second_optimizer_over_the_same_weights_takes_the_place_of_the_first():
    model, handle = fresh()
    old = sgd(model)
    handle.bind(old)
    handle.bind(new := sgd(model))
    assert not old._optimizer_step_pre_hooks
    steps_of(model, [new])
    assert_as_reference(model, handle)


def test_an_optimizer_in_the_backward_pass():
    """One optimizer a parameter, stepped as soon as its gradient is there."""
    model, handle = fresh()
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.01) for p in model.parameters()}
    handle.bind(*optimizers.values())

    def update(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    for step in range(4):
        loss_of(model, step).backward()
    assert_as_reference(model, handle)


class Accelerated(torch.optim.Optimizer):
    """A torch optimizer by class alone, as Hugging Face Accelerate's: without the state that torch's __init__ makes."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)
    state = property(lambda self: self.optimizer.state)

    def step(self, closure=None):
        return self.optimizer.step(closure)


class Lookahead:
    """No torch optimizer at all, with the fast weights' one inside."""

    def __init__(self, optimizer):
        self._base_optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure=None):
        self._base_optimizer.step(closure)


class Many:
    def __init__(self, optimizers):
        self.optimizers = optimizers

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


class Zero(torch.optim.Optimizer):
    """Updates a part of the weights by an inner optimizer, and the rest itself (from other ranks)."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})
        mine, others = (list(part) for part in (self.param_groups[0]["params"][:1], self.param_groups[0]["params"][1:]))
        self.optim = torch.optim.SGD(mine, lr=0.1, momentum=0.9, weight_decay=0.01)
        self.elsewhere = {0: [torch.optim.SGD(others, lr=0.1, momentum=0.9, weight_decay=0.01)]}

    def step(self, closure=None):
        self.optim.step()
        self.elsewhere[0][0].step()


WRAPPERS = {
    "Accelerate": lambda model: Accelerated(sgd(model)),
    "Accelerate of Lookahead": lambda model: Accelerated(Lookahead(sgd(model))),
    "Lookahead": lambda model: Lookahead(sgd(model)),
    "many": lambda model: Many(split(model)),
    "ZeRO": lambda model: Zero(model.parameters()),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_is_unwrapped(name):
    model, handle = fresh()
    optimizer = WRAPPERS[name](model)
    handle.bind(optimizer)
    steps_of(model, [optimizer])
    assert_as_reference(model, handle)


def test_what_is_no_optimizer_is_refused_and_the_bound_one_stays():
    model, handle = fresh()
    optimizer = sgd(model)
    handle.bind(optimizer)
    with pytest.raises(TypeError, match="Optimizer, not Sequential"):
        handle.bind(mlp())
    steps_of(model, [optimizer])
    assert_as_reference(model, handle)


def test_bind_names_the_sparse_weights_that_nobody_holds():
    model, handle = fresh()
    with pytest.warns(UserWarning, match=r"no bound optimizer holds these sparse weights: 0\.weight, 2\.weight"):
        handle.bind(torch.optim.SGD([model[0].bias], lr=0.1))
    model[0].weight.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.bind(torch.optim.SGD([model[2].weight], lr=0.1))


@pytest.mark.parametrize("zero_grad", [True, False])
def test_finalize_tells_of_training_without_a_counted_step(zero_grad):
    model, handle = fresh()
    optimizer = sgd(model)
    train(model, optimizer, range(2))
    if zero_grad:
        optimizer.zero_grad()
    with pytest.warns(UserWarning, match="no step was counted"):
        handle.finalize()


@pytest.mark.parametrize(("method", "hyper"), [("asp", {}), ("one-shot", {"at": 100})])
def test_finalize_tells_of_a_method_whose_mask_never_began(method, hyper):
    model = mlp()
    handle = sparsify(model, "2:4", method, **hyper)
    optimizer = sgd(model)
    handle.bind(optimizer)
    train(model, optimizer, range(2))
    with pytest.warns(UserWarning, match="training was dense so far"):
        handle.finalize()


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("method", ["dense", "ste", "sr-ste", "one-shot", "asp"])
def test_finalize_is_quiet_where_all_went_well(method, trained):
    model = mlp()
    handle = sparsify(model, "2:4", method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for phase in range(handle.method.phases if trained else 0):
            handle.start_phase(phase)
            optimizer = sgd(model)
            handle.bind(optimizer)
            train(model, optimizer, range(2))
        with torch.no_grad():
            model(torch.randn(2, 8))
        handle.finalize()
    assert isinstance(model, nn.Sequential)

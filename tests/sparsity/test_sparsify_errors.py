"""Wrong arguments, and failures in the middle of a forward pass."""

import pytest
import torch
from attach_toys import Fussy, bare, plain_twin
from sparsity_toys import batch, convnet, mlp, sgd, train
from torch import nn

from nmbench.sparsity import NonFiniteWeightError, default_candidates, sparsify
from nmbench.sparsity.attach import is_attached, weights_of


def test_sparsify_twice_is_an_error():
    model = mlp()
    sparsify(model, "2:4")
    for target in (model, model[0], nn.Sequential(model)):
        with pytest.raises(ValueError, match="sparse already"):
            sparsify(target, "2:4")


def test_a_lazy_layer_is_named():
    with pytest.raises(ValueError, match=r"1\.weight is not initialised yet"):
        sparsify(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4)), "2:4")


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (["2.weigth"], "did you mean '2.weight'"),
        (["nothing-like-it"], "names no convolution or linear weight"),
        ("0.bias", "names no convolution or linear weight"),
        (["3"], "an embedding"),
    ],
)
def test_a_wrong_layer_is_named(layers, says):
    model = mlp().append(nn.Embedding(4, 4))
    with pytest.raises(ValueError, match="layers: ") as caught:
        sparsify(model, "2:4", layers=layers)
    assert says in str(caught.value)
    assert not is_attached(model)


@pytest.mark.parametrize(
    ("layers", "sparse"),
    [
        (None, ["0.weight", "2.weight"]),
        (["0"], ["0.weight"]),
        ("2.weight", ["2.weight"]),
        (["*"], ["0.weight", "2.weight"]),
        ([], []),
        ((name for name in ("0", "2")), ["0.weight", "2.weight"]),
        (lambda name, module: module.out_features == 4, ["2.weight"]),
        (lambda name, module: name == "0", ["0.weight"]),
    ],
)
def test_layers_are_chosen_by_name_or_rule(layers, sparse):
    handle = sparsify(mlp(), "2:4", layers=layers)
    assert [i.name for i in handle.layers if i.sparse] == sparse
    assert all(i.reason == "left out by the choice of layers" for i in handle.layers if not i.sparse)


def test_the_reason_for_a_small_dimension_is_told():
    first, *_ = sparsify(convnet(), "2:4").layers
    assert (first.role, first.reason) == ("dense", "its grouped dimension is 3, below M = 4")


def test_the_default_candidates_leave_out_the_last_linear_layer():
    assert default_candidates(convnet()) == ["0.weight", "2.weight"]
    assert default_candidates(nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 4, 1))) == ["0.weight", "1.weight"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_and_the_model_is_left_alone(path, bad):
    model = mlp()
    before = bare(model)
    with torch.no_grad():
        model[2].weight[1, 2] = bad
    with pytest.raises(NonFiniteWeightError, match=r"2\.weight holds NaN or infinity"):
        sparsify(model, "2:4")
    assert bare(model) == before


def test_an_exception_inside_forward_leaves_the_scope_right(path):
    model = Fussy()
    handle = sparsify(model, "2:4", "ste")
    x = batch(0)[0]
    for _ in range(2):
        model.fail = True
        with pytest.raises(OSError, match="as told"):
            model(x)
        assert handle._scope.depth == 0
        assert all(w._cache is None for w in weights_of(model))
        model.fail = False
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.data.add_(torch.randn_like(parameter))  # no version counter sees this
        assert torch.equal(model(x), plain_twin(handle, model)(x))


def test_an_attribute_error_in_the_core_is_not_answered_with_the_dense_weight(monkeypatch):
    """nn.Module.__getattr__ would hand out the parameter, and the network would train dense without a word."""
    from nmbench.sparsity.weight import SparseWeight

    model = mlp()
    sparsify(model, "2:4", "ste")
    monkeypatch.setattr(SparseWeight, "masked", lambda self, *args: self.no_such_thing)
    with pytest.raises(RuntimeError, match="no_such_thing"):
        model(batch(0)[0])


def test_a_forward_pass_cut_off_by_ctrl_c_does_not_keep_its_masked_weights():
    """torch's always_call hooks see no KeyboardInterrupt, so the pass is never left; the next step forgets it."""
    model = mlp()
    optimizer = sgd(model)
    sparsify(model, "2:4", "ste").bind(optimizer)
    hook = model[0].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model(batch(0)[0])
    hook.remove()
    train(model, optimizer, range(1))
    with torch.no_grad():
        before = model(batch(1)[0])
        dict(model.named_parameters())["0.weight"].data.mul_(-1.5)
        assert not torch.equal(model(batch(1)[0]), before)

"""A sparse model is the same model: names, keys, copies, pickles, compilation, and the way back to plain classes."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparsity_toys import batch, convnet, loss_of, masked, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import NonFiniteWeightError, audit, default_candidates, sparsify
from nmbench.sparsity.attach import is_attached, weights_of

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Tied(nn.Module):
    """Two linear layers with one weight between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Fussy(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        self.fail = False

    def forward(self, x):
        x = self.a(x)
        if self.fail:
            raise OSError("as told")
        return self.b(x)


def plain_twin(handle, model):
    """A deep copy of the dense model whose sparse weights are masked by the plain-Python reference."""
    twin = copy.deepcopy(model)
    from nmbench.sparsity.attach import detach

    detach(twin)
    with torch.no_grad():
        for info in handle.layers:
            if info.sparse:
                dict(twin.named_parameters())[info.name].copy_(masked(handle, info.name, model))
    assert not is_attached(twin)
    return twin


def everything(model):
    """What a checkpoint, an optimizer or a printout sees of a model."""
    return (
        [(n, id(p)) for n, p in model.named_parameters()],
        list(model.state_dict()),
        [n for n, _ in model.named_modules()],
        [n for n, _ in model.named_buffers()],
        repr(model),
    )


# -- names and keys -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [mlp, convnet, Attention, Tied])
@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
def test_names_order_keys_and_objects_are_unchanged(make, method):
    model = make()
    before = everything(model)
    handle = sparsify(model, "2:4", method)
    assert everything(model) == before
    handle.finalize()
    assert everything(model) == before


def test_the_outputs_are_those_of_the_masked_weights(path):
    for model, x in (
        (mlp(), batch(0)[0]),
        (convnet(), IMAGES),
        (Attention(), torch.randn(2, 5, 8)),
        (Tied(), batch(0)[0]),
    ):
        handle = sparsify(model, "2:4", "ste")
        assert torch.equal(model(x), plain_twin(handle, model)(x))


def test_a_dense_checkpoint_loads_into_a_sparse_model_and_back(tmp_path):
    dense, other = mlp(1), mlp(2)
    handle = sparsify(other, "2:4", "ste")
    torch.save(dense.state_dict(), tmp_path / "dense.pt")
    assert other.load_state_dict(torch.load(tmp_path / "dense.pt")) == ([], [])
    assert torch.equal(other(batch(0)[0]), plain_twin(handle, dense)(batch(0)[0]))
    torch.save(other.state_dict(), tmp_path / "sparse.pt")
    back = mlp(3)
    back.load_state_dict(torch.load(tmp_path / "sparse.pt"))
    assert torch.equal(back(batch(0)[0]), dense(batch(0)[0]))


def test_optimizer_groups_and_state_are_those_of_the_dense_model():
    dense, sparse = mlp(), mlp()
    od, os_ = torch.optim.Adam(dense.parameters()), torch.optim.Adam(sparse.parameters())  # made before sparsify
    handle = sparsify(sparse, "2:4", "ste")
    handle.bind(os_)
    train(dense, od, range(2))
    od2 = torch.optim.Adam(sparse.parameters())
    od2.load_state_dict(od.state_dict())
    assert [len(g["params"]) for g in od2.param_groups] == [4]
    assert all(a is b for a, b in zip(os_.param_groups[0]["params"], sparse.parameters(), strict=True))


def test_param_groups_keep_their_settings():
    """No weight decay on biases, a smaller rate on one layer: groups by name work as before, and each gets its term."""
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=1.0)
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(
        [{"params": [named["0.weight"]], "lr": 0.1}, {"params": [named["2.weight"]], "lr": 0.01}], lr=1.0
    )
    handle.bind(optimizer)
    before = weights(model)
    (loss_of(model, 0) * 0).backward()
    optimizer.step()
    for name, lr in (("0.weight", 0.1), ("2.weight", 0.01)):
        torch.testing.assert_close(
            weights(model)[name], before[name] * (1 - lr * ~reference_mask(before[name], 2, 4)), rtol=1e-6, atol=1e-7
        )


# -- copies and pickles ---------------------------------------------------------------------------------------------
def saved_and_loaded(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
@pytest.mark.parametrize("make", [mlp, Tied])
def test_a_copy_evaluates_the_same_and_stands_alone(copied, method, make):
    model = make()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    handle.bind(optimizer)
    out = 8 if make is Tied else 4
    train(model, optimizer, range(2), out=out)
    x = batch(0)[0]
    expected = model(x)
    twin = copied(model)
    assert is_attached(twin)
    assert torch.equal(twin(x), expected)
    assert not {id(w) for w in weights_of(twin)} & {id(w) for w in weights_of(model)}
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in model.parameters()}
    train(model, optimizer, range(2, 5), out=out)  # the original moves on ...
    assert torch.equal(twin(x), expected)
    changed = model(x)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert torch.equal(model(x), changed)  # ... and so does the copy
    assert not torch.equal(twin(x), expected)


def test_a_copy_of_a_copy_of_one_layer():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    layer = copy.deepcopy(copy.deepcopy(model[0]))
    x = batch(0)[0]
    assert torch.equal(layer(x), nn.functional.linear(x, masked(handle, "0.weight"), weights(model)["0.bias"]))


def test_an_averaged_model_masks_its_own_average():
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "ste")
    handle.bind(optimizer)
    average = torch.optim.swa_utils.AveragedModel(model)
    for step in range(4):
        train(model, optimizer, [step])
        average.update_parameters(model)
    x = batch(0)[0]
    first = dict(average.module.named_parameters())
    hidden = torch.tanh(
        nn.functional.linear(x, first["0.weight"] * reference_mask(first["0.weight"], 2, 4), first["0.bias"])
    )
    expected = nn.functional.linear(
        hidden, first["2.weight"] * reference_mask(first["2.weight"], 2, 4), first["2.bias"]
    )
    assert torch.equal(average(x), expected)


# -- torch.compile --------------------------------------------------------------------------------------------------
def one_linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4))


def compiled_equals_eager(backend, method, exact=True, make=mlp, steps=3):
    model, twin = make(), make()
    optimizers = [sgd(model), sgd(twin)]
    for m, optimizer in zip((model, twin), optimizers, strict=True):
        sparsify(m, "2:4", method, **({"lambda_w": 0.1} if method == "sr-ste" else {})).bind(optimizer)
    fast = torch.compile(model, backend=backend)
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    for step in range(steps):
        losses = []
        for m, optimizer in zip((fast, twin), optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(m, step)
            loss.backward()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, **tolerance)
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, **tolerance)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin), **tolerance)


@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_equals_eager(backend, method):
    torch.compiler.reset()
    compiled_equals_eager(backend, method)


def test_compiled_in_pieces_equals_eager():
    """A graph break in the middle of the forward pass."""
    torch.compiler.reset()

    class Broken(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            torch._dynamo.graph_break()
            return self[2](torch.tanh(x))

    model = Broken(*mlp())
    handle = sparsify(model, "2:4", "ste")
    x = batch(0)[0]
    fast = torch.compile(model, backend="eager")
    for _ in range(2):
        assert torch.equal(fast(x), plain_twin(handle, mlp())(x))
        assert handle._scope.depth == 0


@pytest.mark.slow
def test_compiled_by_inductor_equals_eager():
    torch.compiler.reset()
    compiled_equals_eager("inductor", "sr-ste", exact=False, make=one_linear, steps=2)


def test_a_compiled_model_follows_a_change_of_rule():
    """one-shot prunes after a step: the compiled graph of the dense rule must not run on."""
    torch.compiler.reset()
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "one-shot", at=1)
    handle.bind(optimizer)
    fast = torch.compile(model, backend="eager")
    x = batch(0)[0]
    assert torch.equal(fast(x), model(x))
    train(model, optimizer, [0])
    with torch.no_grad():
        dict(model.named_parameters())["0.weight"].add_(1.0)  # off zero: only the held mask prunes now
    assert torch.equal(fast(x), model(x))


# -- special weights ------------------------------------------------------------------------------------------------
def test_tied_weights_share_one_mask_and_one_term(path):
    model = Tied()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle.bind(optimizer)
    assert list(handle.masks) == ["a.weight"]
    assert handle.sad.weights == 64
    before = weights(model)["a.weight"]
    (model(batch(0)[0]) * 0).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weights(model)["a.weight"], before * (1 - 0.1 * ~reference_mask(before, 2, 4)))
    handle.finalize()
    assert model.a.weight is model.b.weight
    assert audit(model, "2:4").ok


@pytest.mark.parametrize("embedding_first", [True, False])
def test_an_embedding_tied_to_a_linear_layer_stays_dense_and_says_so(embedding_first):
    model = nn.Module()
    parts = {"embedding": nn.Embedding(12, 8), "head": nn.Linear(8, 12)}
    for name in parts if embedding_first else reversed(parts):
        model.add_module(name, parts[name])
    model.head.weight = model.embedding.weight
    model.body = nn.Linear(8, 8)
    handle = sparsify(model, "2:4")
    tied, body = handle.layers
    assert (tied.role, body.role) == ("dense", "sparse")
    assert "an embedding" in tied.reason
    assert "tied to" in tied.reason
    assert ("head" if embedding_first else "embedding") in tied.reason


def test_a_plain_embedding_says_why_it_is_dense():
    (info,) = sparsify(nn.Sequential(nn.Embedding(8, 8)), "2:4").layers
    assert (info.role, info.reason) == ("dense", "an embedding")


@pytest.mark.parametrize("method", ["ste", "sr-ste", "one-shot"])
def test_frozen_layers_stay(method):
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    before = weights(model)
    handle.bind(optimizer)
    train(model, optimizer, range(3))
    assert torch.equal(weights(model)["0.weight"], before["0.weight"])
    assert not torch.equal(weights(model)["2.weight"], before["2.weight"])
    assert handle.sad.per_layer["0.weight"] == 0
    assert torch.equal(model(batch(0)[0]), plain_twin(handle, model)(batch(0)[0]))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_multihead_attention_uses_the_masked_projections(path, training, fast, need_weights):
    """In training and, in eval mode without gradients, on the fused path."""
    model = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
    handle = sparsify(model, "2:4", "ste")
    assert [i.name for i in handle.layers if i.sparse] == ["in_proj_weight", "out_proj.weight"]
    x = torch.randn(2, 5, 8)
    twin = plain_twin(handle, model)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.set_grad_enabled(training):
            ours, theirs = (m(x, x, x, need_weights=need_weights)[0] for m in (model, twin))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert torch.equal(ours, theirs)


def test_an_encoder_layer_on_its_fused_path():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    handle = sparsify(model, "2:4", "ste")
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        assert torch.equal(model(x), plain_twin(handle, model)(x))


def test_attention_with_separate_projections():
    model = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=True)
    handle = sparsify(model, "2:4", "ste")
    assert len([i for i in handle.layers if i.sparse]) == 4
    q, k, v = torch.randn(2, 3, 8), torch.randn(2, 4, 6), torch.randn(2, 4, 5)
    assert torch.equal(model(q, k, v)[0], plain_twin(handle, model)(q, k, v)[0])


@pytest.mark.parametrize(
    ("layer", "dim", "groups"),
    [
        (nn.ConvTranspose2d(6, 8, 3), 0, 1),
        (nn.ConvTranspose2d(12, 8, 3, groups=2), 0, 2),
        (nn.ConvTranspose1d(12, 8, 3, groups=2), 0, 2),
        (nn.Conv2d(12, 8, 3, groups=2), 1, 1),
        (nn.Conv3d(6, 8, 3), 1, 1),
    ],
    ids=str,
)
def test_each_kind_of_convolution_is_grouped_along_its_own_reduction(path, layer, dim, groups):
    expected = reference_mask(layer.weight, 2, 4, dim=dim, groups=groups)
    handle = sparsify(copy.deepcopy(layer), "2:4", "ste")
    assert torch.equal(handle.masks["weight"], expected)


def test_channels_last_training_equals_contiguous(path):
    a, b = convnet(), convnet().to(memory_format=torch.channels_last)
    for model in (a, b):
        optimizer = sgd(model, lr=0.01)
        sparsify(model, "2:4", "sr-ste", lambda_w=0.1).bind(optimizer)
        train(model, optimizer, range(3), shape=(4, 3, 8, 8), out=5)
    torch.testing.assert_close(weights(a), weights(b), rtol=1e-4, atol=1e-5)


def test_functional_call_masks_the_weights_that_it_is_given():
    model, other = mlp(), mlp(5)
    handle = sparsify(model, "2:4", "ste")
    x = batch(0)[0]
    ours = torch.func.functional_call(model, dict(other.named_parameters()), (x,))
    assert torch.equal(ours, plain_twin(handle, other)(x))
    assert torch.equal(model(x), plain_twin(handle, model)(x))


# -- the way back ---------------------------------------------------------------------------------------------------
def bare(model):
    """Everything in a module's dictionary but its tensors and children, hooks by their number."""
    keys = ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called", "_load_state_dict_post_hooks")
    return [
        (type(m), sorted(m.__dict__), [len(m.__dict__[k]) for k in keys], len(m._backward_hooks))
        for m in model.modules()
    ]


@pytest.mark.parametrize("method", ["dense", "ste", "sr-ste", "one-shot", "asp"])
@pytest.mark.parametrize("make", [mlp, convnet, Tied, Attention])
def test_finalize_leaves_plain_classes_without_hooks(make, method):
    model = make()
    before = bare(model)
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    handle.bind(optimizer)
    assert bare(model) != before
    handle.finalize()
    assert bare(model) == before
    assert not is_attached(model)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert type(model) is make().__class__


def test_hooks_of_others_survive():
    model = mlp()
    seen = []
    model.register_forward_hook(lambda *_: seen.append("out"))
    model[0].register_load_state_dict_post_hook(lambda *_: seen.append("load"))
    handle = sparsify(model, "2:4")
    model.register_forward_pre_hook(lambda *_: seen.append("in"))
    handle.finalize()
    model(batch(0)[0])
    model.load_state_dict(model.state_dict())
    assert seen == ["in", "out", "load"]


@pytest.mark.parametrize("method", ["ste", "sr-ste", "one-shot"])
@pytest.mark.parametrize(("make", "x"), [(mlp, batch(0)[0]), (convnet, IMAGES), (Attention, torch.randn(2, 5, 8))])
def test_baked_weights_give_bit_identical_outputs(path, make, x, method):
    model = make().eval()
    handle = sparsify(model, "2:4", method)
    expected = model(x)
    handle.finalize()
    assert torch.equal(model(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)


def test_finalize_twice_does_nothing_and_the_handle_says_that_it_is_over():
    model = mlp()
    handle = sparsify(model, "2:4")
    handle.finalize()
    before = weights(model)
    handle.finalize()
    assert all(torch.equal(before[k], w) for k, w in weights(model).items())
    for call in (handle.step, handle.before_step, handle.refresh, lambda: handle.bind(sgd(model))):
        with pytest.raises(RuntimeError, match="finalised"):
            call()
    assert handle.sad.total == 0


def test_a_finalised_model_can_be_made_sparse_again():
    model = mlp()
    sparsify(model, "2:4").finalize()
    handle = sparsify(model, "1:4")
    handle.finalize()
    assert audit(model, "1:4").ok


LAYERS = st.lists(st.sampled_from(["linear", "tanh", "norm", "dropout", "nested"]), min_size=1, max_size=5)


def sequential(kinds, width, seed):
    torch.manual_seed(seed)
    made = {
        "linear": lambda: nn.Linear(width, width, bias=seed % 2 == 0),
        "tanh": nn.Tanh,
        "norm": lambda: nn.LayerNorm(width),
        "dropout": nn.Dropout,
        "nested": lambda: nn.Sequential(nn.Linear(width, width), nn.ReLU()),
    }
    return nn.Sequential(*(made[kind]() for kind in kinds)).eval()


@given(
    LAYERS, st.integers(1, 20), st.sampled_from(["2:4", "1:4", "3:8", "1:16@kernel"]), st.integers(0, 99),
    st.sampled_from(["dense", "ste", "sr-ste", "one-shot", "asp"]),
)  # fmt: skip
def test_attach_and_finalize_round_trip(kinds, width, pattern, seed, method):
    model, x = sequential(kinds, width, seed), torch.randn(3, width)
    names, dense, shape = everything(model), weights(model), bare(model)
    handle = sparsify(model, pattern, method)
    assert everything(model) == names
    output = model(x)
    handle.finalize()
    assert everything(model) == names
    assert bare(model) == shape
    kept = audit(model, pattern, handle.layers)
    if method == "dense":
        assert all(torch.equal(dense[k], w) for k, w in weights(model).items())
    else:
        assert kept.ok
        sparse = {i.name for i in handle.layers if i.sparse}
        p = handle.pattern
        for name, w in weights(model).items():
            expected = dense[name] * reference_mask(dense[name], p.n, p.m, p.axis) if name in sparse else dense[name]
            assert torch.equal(w, expected)
    if method != "asp":  # whose first pass is dense
        assert torch.equal(model(x), output)


# -- errors ---------------------------------------------------------------------------------------------------------
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
    from nmbench.sparsity.layer import SparseWeight

    model = mlp()
    sparsify(model, "2:4", "ste")
    monkeypatch.setattr(SparseWeight, "masked", lambda self: self.no_such_thing)
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

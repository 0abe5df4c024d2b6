"""The hooks of the wider contract, by methods that are made for the test."""

import pytest
import torch
from method_toys import Doubling, Plain, zoo
from sparsity_toys import mlp, sgd, train
from torch import nn

from nmbench.sparsity import FOLLOW, KEEP, Handle, Method, NMPattern, Product, sparsify, ste, two_sided
from nmbench.sparsity.attach import weights_of
from nmbench.sparsity.pattern import stretch
from nmbench.sparsity.select import find_weights


def under(model, method, pattern="2:4", layers=None):
    return Handle(model, NMPattern.parse(pattern), method, find_weights(model), layers)


IMAGES = torch.randn(3, 8, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def gradients(model):
    model.zero_grad()
    images = IMAGES.clone().requires_grad_()
    out = model(images)
    out.square().sum().backward()
    return out.detach(), images.grad, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_two_sided_products_are_those_of_autograd_in_every_kind_of_layer():
    model, other = zoo(torch.float64), zoo(torch.float64)
    sparsify(model, "2:4", "ste")
    under(other, Plain())
    for made, expected in zip(gradients(other), gradients(model), strict=True):
        torch.testing.assert_close(made, expected)


def one_layer(kind):
    """(layer, inputs)"""
    torch.manual_seed(1)
    made = {
        "linear": (nn.Linear(8, 6), torch.randn(3, 5, 8)),
        "conv": (nn.Conv2d(8, 6, 3, stride=2, padding=1, dilation=2), torch.randn(2, 8, 9, 9)),
        "grouped": (nn.Conv1d(16, 8, 3, groups=2), torch.randn(2, 16, 7)),
        "same": (nn.Conv2d(8, 4, 4, padding="same"), torch.randn(2, 8, 5, 5)),
        "circular": (nn.Conv3d(4, 4, 3, padding=1, padding_mode="circular"), torch.randn(1, 4, 4, 4, 4)),
        "up": (nn.ConvTranspose2d(8, 8, 3, groups=2, stride=2, output_padding=1), torch.randn(2, 8, 4, 4)),
        "unbatched": (nn.Conv2d(8, 4, 3), torch.randn(8, 5, 5)),
    }[kind]
    return made[0].double(), made[1].double()


@pytest.mark.parametrize("kind", ["linear", "conv", "grouped", "same", "circular", "up", "unbatched"])
def test_the_gradient_to_the_inputs_goes_through_another_weight(kind):
    grads = {}
    for name, method in {"plain": Plain(), "doubled": Doubling()}.items():
        layer, inputs = one_layer(kind)
        under(nn.Sequential(layer), method)
        inputs.requires_grad_()
        layer(inputs).square().sum().backward()
        grads[name] = inputs.grad, layer.weight.grad, layer.bias.grad
    torch.testing.assert_close(grads["doubled"][0], 2 * grads["plain"][0])
    torch.testing.assert_close(grads["doubled"][1:], grads["plain"][1:])


@pytest.mark.parametrize("others", [False, True])
def test_attention_multiplies_by_the_method_in_all_its_projections(others):
    grads = []
    for method in (Plain(), Doubling()):
        torch.manual_seed(3)
        attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
        under(attention, method)
        x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
        attention(x[:, :3] if others else x, x, x)[0].square().sum().backward()
        grads.append((x.grad, attention.in_proj_weight.grad, attention.out_proj.weight.grad))
    torch.testing.assert_close(grads[1][0], 4 * grads[0][0])
    torch.testing.assert_close(grads[1][1], 2 * grads[0][1])
    torch.testing.assert_close(grads[1][2], grads[0][2])


def test_a_product_that_cannot_be_served_is_refused():
    class Odd(nn.Linear):
        def forward(self, x):
            return torch.einsum("bi,oi->bo", x, self.weight)

    model = nn.Sequential(Odd(8, 4))
    under(model, Doubling())
    with pytest.raises(RuntimeError, match=r"0\.weight: doubling changes how the layer multiplies.*einsum"):
        model(torch.randn(2, 8))


def test_without_a_base_two_sided_is_a_linear_layer():
    x, w, back = torch.randn(3, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    y = two_sided(x, w, back, seen=lambda grad: 3 * grad)
    upstream = torch.randn(3, 4)
    y.backward(upstream)
    torch.testing.assert_close(y, x @ w.t())
    torch.testing.assert_close(x.grad, upstream @ back)
    torch.testing.assert_close(w.grad, 3 * upstream.t() @ x)
    assert Product().linear


def test_ste_has_the_value_exactly_and_hands_the_gradient_on():
    weight, value = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    made = ste(weight, value)
    upstream = torch.randn(4, 8)
    made.backward(upstream)
    assert torch.equal(made, value)
    assert torch.equal(weight.grad, upstream)


class Every(Method):
    """A new mask every third step; it notes what it is asked, in their order."""

    name = "every"

    def __init__(self):
        super().__init__()
        self.told = []

    def rule(self, phase, step):
        return KEEP if step % 3 else FOLLOW

    def mask(self, layer, weight):
        self.told.append(("mask", self.now.step))
        return super().mask(layer, weight)

    def before(self, layers, optimizer):
        self.told.append(("before", self.now.step))
        super().before(layers, optimizer)

    def after(self, layers, optimizer):
        self.told.append(("after", self.now.step))


def test_hooks_come_in_their_order_and_kept_masks_stay():
    model, method = mlp(), Every()
    handle = under(model, method, layers=["0"])
    optimizer = sgd(model)
    handle.bind(optimizer)
    first = handle.masks["0.weight"].clone()
    method.told.clear()
    train(model, optimizer, range(2))
    assert torch.equal(handle.masks["0.weight"], first)
    assert handle.sad.history == [0, 0]
    model(torch.randn(2, 8))  # weights moved; the mask is kept all the same
    train(model, optimizer, range(2, 3))
    steps = [("before", 0), ("after", 1), ("before", 1), ("after", 2), ("before", 2), ("after", 3), ("mask", 3)]
    assert method.told == steps
    assert torch.equal(handle.masks["0.weight"], method.mask(weights_of(model)[0], model[0].weight))


def test_a_mask_of_its_own_follows_what_is_loaded_and_refreshed():
    model, method = mlp(), Every()
    handle = under(model, method, layers=["0"])
    with torch.no_grad():
        model[0].weight.copy_(-model[0].weight.flip(1))
    seen = model(torch.randn(2, 8))
    assert seen.shape == (2, 4)
    assert torch.equal(handle.masks["0.weight"], method.mask(weights_of(model)[0], model[0].weight))
    model.load_state_dict(mlp(4).state_dict())
    assert torch.equal(handle.masks["0.weight"], method.mask(weights_of(model)[0], model[0].weight))


def test_weights_changed_through_data_are_seen_by_a_forward_pass_of_the_methods_own():
    model, twin = mlp(), mlp(4)
    handle, other = sparsify(model, "2:4", "s-ste", layers=["0"]), sparsify(twin, "2:4", "s-ste", layers=["0"])
    x = torch.randn(2, 8)
    model(x), twin(x)
    weights_of(twin)[0].memory["beta"] = weights_of(model)[0].memory["beta"]
    for own, fresh in zip(model.parameters(), twin.parameters(), strict=True):
        own.data.copy_(fresh)
    assert torch.equal(model(x), twin(x))
    assert torch.equal(handle.masks["0.weight"], other.masks["0.weight"])


class Tightening(Method):
    """8:128 at first, 2:4 from the second step on."""

    name = "tightening"

    def pattern(self, layer, step):
        return layer.asked if step else stretch(8, 128)


def test_a_pattern_may_change_and_be_wider_than_a_final_one():
    model = nn.Sequential(nn.Linear(256, 4))
    handle = under(model, Tightening())
    assert handle.masks["0.weight"].view(4, 2, 128).sum(2).eq(8).all()
    optimizer = sgd(model)
    handle.bind(optimizer)
    model(torch.randn(2, 256)).sum().backward()
    optimizer.step()
    assert handle.masks["0.weight"].view(4, 64, 4).sum(2).eq(2).all()
    handle.finalize()
    assert (model[0].weight != 0).view(4, 64, 4).sum(2).eq(2).all()


def test_memory_of_layers_and_method_is_saved():
    model, other = zoo(), zoo()
    handle, again = under(model, Every()), under(other, Every())
    handle.method.memory["list"] = [1.5, 2.5]
    weights_of(model)[1].memory.update(tensor=torch.arange(3), number=4)
    handle.observe(loss=0.25, total=9)
    again.load_state_dict(handle.state_dict())
    assert again.method.memory == {"list": [1.5, 2.5]}
    assert torch.equal(weights_of(other)[1].memory["tensor"], torch.arange(3))
    assert (again.method.now.total, again.method.now.loss) == (9, 0.25)


def test_a_state_of_the_first_version_is_still_read():
    model, twin = mlp(), mlp()
    handle, again = sparsify(model, "2:4", "sr-ste"), sparsify(twin, "2:4", "sr-ste")
    handle.bind(optimizer := sgd(model))
    train(model, optimizer, range(3))
    state = {key: value for key, value in handle.state_dict().items() if key not in ("now", "memory", "layers")}
    twin.load_state_dict(model.state_dict())
    again.load_state_dict({**state, "version": 1})
    assert again.steps == 3
    assert again.sad.history == handle.sad.history

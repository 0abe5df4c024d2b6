"""Flips and SAD against brute force over real training, and runs that go on where they stopped."""

import io
import itertools

import pytest
import torch
from sparsity_toys import mlp, reference_mask, sgd, train, weights

from nmbench.sparsity import SAD, sparsify

SIZES = {"0.weight": 96, "2.weight": 48}


def brute_masks(model, pattern=(2, 4)):
    return {k: reference_mask(w, *pattern) for k, w in weights(model).items() if k in SIZES}


def distance(a, b):
    return {k: int((a[k] ^ b[k]).sum()) for k in a}


@pytest.fixture(params=["dense", "ste", "sr-ste"])
def trained(request, path):
    """A handle after 8 steps, and the masks after each, by brute force."""
    model = mlp()
    optimizer = sgd(model, lr=0.5)
    handle = sparsify(model, "2:4", request.param)
    handle.bind(optimizer)
    masks = [brute_masks(model)]
    for step in range(8):
        train(model, optimizer, [step])
        masks.append(brute_masks(model))
        if step in (2, 7):
            handle.snapshot()
    return handle, masks


def test_history_is_the_flips_of_each_step(trained):
    handle, masks = trained
    assert handle.sad.history == [sum(distance(a, b).values()) for a, b in itertools.pairwise(masks)]
    assert min(handle.sad.history) > 0


def test_per_layer_total_and_per_weight_are_sums_of_the_same_flips(trained):
    handle, masks = trained
    steps = [distance(a, b) for a, b in itertools.pairwise(masks)]
    assert handle.sad.per_layer == {k: sum(s[k] for s in steps) for k in SIZES}
    assert handle.sad.total == sum(handle.sad.per_layer.values()) == sum(handle.sad.history)
    assert handle.sad.per_weight == handle.sad.total / 144
    assert handle.sad.weights == 144


def test_between_is_the_distance_of_two_snapshots_and_not_the_flips_on_the_way(trained):
    handle, masks = trained
    assert sorted(handle.sad.snapshots) == [0, 3, 8]
    for i, j in ((0, 3), (3, 8), (0, 8), (8, 0)):
        assert handle.sad.between_per_layer(i, j) == distance(masks[i], masks[j])
        assert handle.sad.between(i, j) == sum(distance(masks[i], masks[j]).values())
    assert handle.sad.between(3, 3) == 0
    assert handle.sad.between(0, 8) < handle.sad.total  # some weights left and came back


def test_an_unknown_snapshot_is_named_with_those_that_exist(trained):
    handle, _ = trained
    with pytest.raises(KeyError, match=r"no snapshot after step 5; there are: \[0, 3, 8\]"):
        handle.sad.between(0, 5)


def test_nothing_sparse_counts_nothing():
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", layers=[])
    handle.bind(optimizer)
    train(model, optimizer, range(2))
    assert (handle.sad.total, handle.sad.history, handle.sad.per_weight, handle.sad.per_layer) == (0, [0, 0], 0.0, {})


# -- resume ---------------------------------------------------------------------------------------------------------
METHODS = [
    ("dense", {}),
    ("ste", {}),
    ("sr-ste", {"lambda_w": 0.1}),
    ("one-shot", {}),
    ("one-shot", {"at": 2}),
    ("one-shot", {"at": 5}),
]


def started(method, hyper, seed=0):
    model = mlp(seed)
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method, **hyper)
    handle.bind(optimizer)
    return model, optimizer, handle


def through_a_file(**parts):
    buffer = io.BytesIO()
    torch.save({name: part.state_dict() for name, part in parts.items()}, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def resumed(saved, method, hyper, after_bind=True):
    model, optimizer, handle = started(method, hyper, seed=9)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    handle.load_state_dict(saved["handle"])
    return model, optimizer, handle


def assert_same_run(a, b):
    assert all(torch.equal(weights(a[0])[k], w) for k, w in weights(b[0]).items())
    assert all(torch.equal(a[2].masks[k], m) for k, m in b[2].masks.items())
    assert torch.equal(a[2].sad.table, b[2].sad.table)
    assert (a[2].steps, a[2].phase, a[2].sad.snapshots.keys()) == (b[2].steps, b[2].phase, b[2].sad.snapshots.keys())
    for i in a[2].sad.snapshots:
        assert a[2].sad.between(0, i) == b[2].sad.between(0, i)


@pytest.mark.parametrize(("method", "hyper"), METHODS)
def test_six_steps_are_three_steps_saved_loaded_and_three_more(path, method, hyper):
    whole = started(method, hyper)
    train(*whole[:2], range(6))
    whole[2].snapshot()
    half = started(method, hyper)
    train(*half[:2], range(3))
    second = resumed(through_a_file(model=half[0], optimizer=half[1], handle=half[2]), method, hyper)
    assert_same_run(second, half)
    train(*second[:2], range(3, 6))
    second[2].snapshot()
    assert_same_run(second, whole)


@pytest.mark.parametrize("stop", [(0, 2), (1, 0), (1, 2)], ids=["first pass", "between", "second pass"])
def test_asp_goes_on_in_either_pass(path, stop):
    def run(run_of, phase, steps):
        model, optimizer, handle = run_of
        if phase != handle.phase:
            handle.start_phase(phase)
        train(model, optimizer, steps)

    whole = started("asp", {})
    run(whole, 0, range(4))
    run(whole, 1, range(4))
    half = started("asp", {})
    phase, step = stop
    run(half, 0, range(4 if phase else step))
    if phase:
        run(half, 1, range(step))
    second = resumed(through_a_file(model=half[0], optimizer=half[1], handle=half[2]), "asp", {})
    assert_same_run(second, half)
    if not phase:
        run(second, 0, range(step, 4))
        run(second, 1, range(4))
    else:
        run(second, 1, range(step, 4))
    assert_same_run(second, whole)


def test_a_held_mask_is_saved_even_where_a_kept_weight_is_zero():
    """By magnitude alone a kept zero could not be told from a pruned one."""
    model, _, handle = started("one-shot", {})
    mask = handle.masks["0.weight"].clone()
    with torch.no_grad():
        dict(model.named_parameters())["0.weight"].zero_()
    saved = through_a_file(model=model, optimizer=sgd(model), handle=handle)
    again = resumed(saved, "one-shot", {})
    assert torch.equal(again[2].masks["0.weight"], mask)


@pytest.mark.parametrize(
    ("pattern", "method", "layers", "says"),
    [
        ("1:4", "sr-ste", None, "another pattern: '2:4'"),
        ("2:4", "ste", None, "another method: 'sr-ste'"),
        ("2:4", "sr-ste", ["0"], "another names"),
        ("2:4", "sr-ste lambda_w", None, "of another hyper"),
    ],
)
def test_a_state_of_another_run_is_refused(pattern, method, layers, says):
    state = sparsify(mlp(), "2:4", "sr-ste").state_dict()
    method, *decay = method.split()
    handle = sparsify(mlp(), pattern, method, layers=layers, **({"lambda_w": 1e-3} if decay else {}))
    with pytest.raises(ValueError, match=says):
        handle.load_state_dict(state)
    with pytest.raises(ValueError, match="the saved SAD has 1 layers, this model has 2"):
        SAD(["a", "b"], [4, 4]).load_state_dict(SAD(["a"], [4]).state_dict())


def test_a_saved_state_is_a_copy():
    model, optimizer, handle = started("one-shot", {})
    train(model, optimizer, range(2))
    state = handle.state_dict()
    held = [m.clone() for m in state["masks"]]
    load = {k: torch.randn_like(w) for k, w in weights(model).items()}
    model.load_state_dict(load)  # a new held mask
    train(model, optimizer, range(2))
    assert all(torch.equal(a, b) for a, b in zip(state["masks"], held, strict=True))
    assert state["sad"]["table"].shape == (2, 2)


def test_counts_on_a_device_are_read_before_they_are_many():
    sad = SAD(["a", "b"], [8, 8])
    rows = [[torch.tensor(step), step % 3] for step in range(600)]  # a layer on a GPU, one on the CPU
    most = 0
    for row in rows:
        sad.append(row)
        most = max(most, len(sad._pending))
    assert most == 255
    assert sad.table.tolist() == [[step, step % 3] for step in range(600)]
    assert sad.history == [step + step % 3 for step in range(600)]
    assert SAD([], []).table.shape == (0, 0)

"""Every method that came after SR-STE, on a network with every kind of layer: it trains, resumes, ends sparse."""

import copy
import pickle
import warnings

import pytest
import torch
from method_toys import SHORT, step_of, zoo
from sparsity_toys import weights
from torch import nn
from torch.utils._pytree import tree_leaves_with_path

from nmbench.sparsity import NMPattern, audit, cost, sparsify
from nmbench.sparsity.low_rank import BlockLinear, LowRankLinear
from nmbench.sparsity.methods import load

STEPS = 6
#: those whose branch stays in the model
BRANCHED = ("slope", "ast-slorb")


def attached(method, pattern="2:4", **settings):
    model = zoo()
    handle = sparsify(model, pattern, method, steps=STEPS, **SHORT[method], **settings)
    return model, handle


def optimizer_of(model, method):
    kind = torch.optim.AdamW if load(method).adam else torch.optim.SGD
    rate = 1e-3 if kind is torch.optim.AdamW or method == "maxq" else 0.01
    return kind(model.parameters(), lr=rate, weight_decay=1e-3)


def trained(method, parts=1, stop=None, pattern="2:4"):
    """(model, handle, optimizer) after all passes, or after `stop` steps of the last."""
    model, handle = attached(method, pattern)
    for phase in range(handle.method.phases):
        handle.start_phase(phase)
        optimizer = optimizer_of(model, method)
        handle.bind(optimizer)
        last = stop if stop is not None and phase + 1 == handle.method.phases else STEPS
        for number in range(last):
            step_of(model, optimizer, number, parts)
    return model, handle, optimizer


@pytest.mark.parametrize("method", SHORT)
def test_it_trains_every_kind_of_layer_and_ends_sparse(method):
    model, handle, _ = trained(method)
    assert all(torch.isfinite(weight).all() for weight in weights(model).values())
    images = torch.randn(2, 8, 6, 6)
    before = model.eval()(images).detach()
    handle.finalize()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), before)
    report = audit(model, "2:4", handle.layers)
    assert report.ok is handle.method.sparse
    assert model.tied.weight is model.mix.weight
    assert {"mix.weight", "attention.in_proj_weight"} <= {line.name for line in report.sparse}
    assert report.density == 1.0 if not handle.method.sparse else report.density <= 0.56
    own = {name for name, _ in zoo().named_parameters()}
    left = {name for name, _ in model.named_parameters()} - own
    assert left == set() or method in BRANCHED
    again = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        assert torch.equal(again.eval()(images), model(images))


@pytest.mark.parametrize("method", SHORT)
def test_resumed_it_is_the_same_to_the_bit(method):
    whole, counted, _ = trained(method)
    model, handle, optimizer = trained(method, stop=4)
    fresh, again = attached(method)
    fresh.load_state_dict(model.state_dict())
    again.start_phase(handle.phase)
    again.load_state_dict(pickle.loads(pickle.dumps(handle.state_dict())))
    other = optimizer_of(fresh, method)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    again.bind(other)
    for number in range(4, STEPS):
        step_of(fresh, other, number)
    assert all(torch.equal(w, weights(whole)[name]) for name, w in weights(fresh).items())
    assert again.sad.history == counted.sad.history
    assert all(torch.equal(mask, counted.masks[name]) for name, mask in again.masks.items())


#: a sample of a gradient depends on how the batch is cut; noise of a mask does not
SAMPLED = {"s-ste", "fst"}


@pytest.mark.parametrize("method", sorted(SHORT.keys() - SAMPLED - {"maskllm"}))
def test_micro_batches_are_one_batch(method):
    whole, handle, _ = trained(method, stop=3)
    parts, other, _ = trained(method, parts=2, stop=3)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], weight, rtol=1e-3, atol=2e-4)
    assert other.steps == handle.steps


@pytest.mark.parametrize("method", SHORT)
def test_it_runs_under_autocast(method):
    model, handle = attached(method)
    handle.start_phase(handle.method.phases - 1)
    optimizer = optimizer_of(model, method)
    handle.bind(optimizer)
    images = torch.randn(4, 8, 6, 6)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).float().square().mean()
        loss.backward()
        optimizer.step()
    grads = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
    assert grads
    assert all(torch.isfinite(g).all() and g.dtype == torch.float32 for g in grads)


def ranked(rank, folder):
    """Each method on this rank's half of the batches."""
    torch.distributed.init_process_group("gloo")
    for method in SHORT:
        torch.manual_seed(1)
        model, handle = attached(method)
        torch.manual_seed(100 + rank)  # as a training seeds its ranks
        unused = method in ("maskllm", "slope")
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=unused)
        for phase in range(handle.method.phases):
            handle.start_phase(phase)
            optimizer = optimizer_of(model, method)
            handle.bind(optimizer)
            for number in range(STEPS):
                step_of(wrapped, optimizer, number, part=rank)
        state = handle.state_dict()
        found = {"weights": weights(model), "masks": handle.masks, "memory": [state["memory"], state["layers"]]}
        torch.save(found, folder / f"{method}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_ranks_have_the_same_masks_and_memory_to_the_bit(two_ranks, tmp_path):
    """One pair of processes for all methods; without sampling they train what one process trains."""
    two_ranks(ranked)
    for method in SHORT:
        first, second = (torch.load(tmp_path / f"{method}-{rank}.pt") for rank in (0, 1))
        for (path, one), (_, other) in zip(*map(tree_leaves_with_path, (first, second)), strict=True):
            assert torch.equal(one, other) if torch.is_tensor(one) else one == other, (method, path)
        if method not in SAMPLED | {"maskllm"}:
            torch.manual_seed(1)
            alone, _, _ = trained(method)
            for name, weight in weights(alone).items():
                torch.testing.assert_close(first["weights"][name], weight, rtol=1e-3, atol=5e-4, msg=f"{method} {name}")


@pytest.mark.slow
@pytest.mark.parametrize("method", SHORT)
def test_compiled_it_trains_what_it_trains_without(method):
    """The graph breaks where a method computes the weight or the product itself; the rest of the model is compiled."""
    torch.compiler.reset()
    found = []
    for compiled in (True, False):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
        handle = sparsify(model, "2:4", method, steps=3, **SHORT[method])
        handle.start_phase(handle.method.phases - 1)
        optimizer = optimizer_of(model, method)
        handle.bind(optimizer)
        run = torch.compile(model, backend="eager") if compiled else model
        for number in range(3):
            optimizer.zero_grad()
            inputs = torch.randn(4, 8, generator=torch.Generator().manual_seed(number))
            run(inputs).square().mean().backward()
            optimizer.step()
        found.append((weights(model), handle.masks))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", SHORT)
def test_layers_have_patterns_of_their_own(method):
    table = {"frozen": "dense", "attention.*": "1:4", "*": "2:4"}
    refuses = [text for text in ("1:4", "2:4") if load(method)().refuses(NMPattern.parse(text))]
    if not load(method).layerwise:
        pytest.skip("it finds the patterns itself")
    if refuses == ["1:4"]:
        table.pop("attention.*")
    model, handle, _ = trained(method, pattern=table)
    handle.finalize()
    report = audit(model, handle.pattern, handle.layers)
    assert report.ok is handle.method.sparse
    own = {line.name: str(line.pattern) for line in report.sparse}
    assert own.pop("attention.in_proj_weight") == ("2:4" if refuses else "1:4")
    assert own["plain.weight"] == "2:4"
    assert next(line for line in report.layers if line.name == "frozen.weight").role == "dense"


@pytest.mark.parametrize("inputs", [16, 10])
def test_block_means_stand_in_for_what_is_pruned_and_stay(inputs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, 8))
    dense = nn.Linear(inputs, 8)
    dense.load_state_dict(model[0].state_dict())
    handle = sparsify(model, "2:4", "ast-slorb", block=8, steps=10)
    size = -(-inputs // 2)
    x = torch.randn(3, 2).repeat_interleave(size, 1)[:, :inputs]  # equal within each block
    torch.testing.assert_close(model(x), dense(x))
    free = torch.randn(3, inputs)
    assert not torch.allclose(model(free), dense(free))
    before = model.eval()(free)
    handle.finalize()
    assert isinstance(model[0], BlockLinear)
    torch.testing.assert_close(model(free), before)
    assert audit(model, "2:4", handle.layers).ok
    counted = cost(model, (free[:1],), "2:4", handle.layers)
    assert next(line for line in counted.layers if line.name == "0.weight_blocks").macs == 2 * 8


def test_a_low_rank_branch_stays_and_counts():
    model, handle, _ = trained("slope")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.finalize()
    assert isinstance(model.mix, LowRankLinear)
    right = model.mix.weight_right
    assert right.abs().sum() > 0
    total = cost(model, (torch.randn(1, 8, 6, 6),), "2:4", handle.layers)
    line = next(line for line in total.layers if line.name == "mix.weight_left")
    assert line.macs == 16 * 8 * 2 * 2  # 16 tokens, two layers that share it


def test_a_transposable_mask_is_audited_along_both_axes():
    model, handle, _ = trained("transposable")
    handle.finalize()
    lines = [line for line in handle.layers if line.sparse]
    assert all(line.outputs is not None for line in lines)
    assert audit(model, "2:4", lines).ok
    weight = model.short.weight
    with torch.no_grad():
        weight.zero_()
        weight[:4, 0] = 1.0  # one of each row's four, four of a column's
    assert audit(model, "2:4", lines).violations == 1


def test_maxq_leaves_fewer_and_fewer_of_the_smallest_groups_whole():
    weight = torch.arange(1.0, 33).view(4, 8)  # groups of 4, from the smallest to the largest
    model = nn.Sequential(nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight.copy_(weight)
    handle = sparsify(model, "2:4", "maxq", steps=8, grow=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    handle.bind(optimizer)
    whole = []
    for _ in range(6):
        counts = handle.masks["0.weight"].view(8, 4).sum(1).tolist()
        assert counts == sorted(counts, reverse=True)
        whole.append(counts.count(4))
        model(torch.randn(2, 8)).sum().backward()
        optimizer.step()
    assert whole == [8, 6, 4, 2, 0, 0]


def test_what_has_not_arrived_is_cut_with_a_warning():
    model, handle, _ = trained("gmp", stop=2)
    with pytest.warns(UserWarning, match="gmp had arrived at the pattern"):
        handle.finalize()
    assert audit(model, "2:4", handle.layers).ok


@pytest.mark.parametrize(
    ("method", "pattern", "says"),
    [
        ("maskllm", "4:8", "at most 35"),
        ("lbc", "4:16", "at most 70"),
        ("fst", "1:4", "2:4 both ways"),
        ("proxsparse", "1:4", "2:4"),
        ("vnm", "6:8", "4 of M columns"),
        ("transposable", "2:4@kernel", "outputs and inputs"),
        ("bi-mask", "2:4@kernel", "along the outputs"),
    ],
)
def test_a_pattern_that_it_cannot_do_is_refused(method, pattern, says):
    with pytest.raises(ValueError, match=f"method '{method}' cannot do {pattern}: .*{says}") as caught:
        sparsify(zoo(), pattern, method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "setting", "value", "says"),
    [
        ("step", "t_min", 1.5, "at most 1"),
        ("decaying-mask", "decay", "cubic", "one of 'exp'"),
        ("fst", "every", 0, "at least 1"),
        ("gmp", "end", 0.0, "above 0"),
        ("s-ste", "beta", 1.0, "no setting 'beta'"),
    ],
)
def test_a_setting_out_of_range_is_named(method, setting, value, says):
    with pytest.raises(ValueError, match=says):
        sparsify(zoo(), "2:4", method, **{setting: value})


@pytest.mark.parametrize("method", ["step", "ast", "ast-slorb"])
def test_other_optimizers_than_adam_are_named(method):
    model, handle = attached(method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle.bind(optimizer)
    with pytest.raises(ValueError, match=f"method '{method}' needs Adam or AdamW, not SGD"):
        step_of(model, optimizer, 0)


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("gmp", {"start": 0.8, "end": 0.5}, "start 0.8 must not be above end 0.5"),
        ("lbc", {"start": 0.9}, "start 0.9 must not be above end 0.5"),
        ("step", {"t_min": 0.9, "t_max": 0.1}, "t_min 0.9 must not be above t_max 0.1"),
        ("decaying-mask", {"dense": 0.5, "fine": 0.6}, "dense 0.5 and fine 0.6 together exceed 1"),
        ("transposable", {"lambda_w": -1.0}, "lambda_w must be at least 0"),
    ],
)
def test_shares_that_do_not_go_together_are_told(method, settings, says):
    with pytest.raises(ValueError, match=says):
        sparsify(zoo(), "2:4", method, **settings)


def test_what_is_no_method_and_no_length_is_told():
    with pytest.raises(ValueError, match="the name of one, or a Method, is wanted"):
        sparsify(zoo(), "2:4", None)
    handle = sparsify(zoo(), "2:4", "gmp")
    for total in (0, -3, 2.5):
        with pytest.raises(ValueError, match="a number of optimizer steps is wanted"):
            handle.observe(total=total)


def test_the_dense_pass_of_domino_is_dense():
    found = []
    for method, hyper in (("dense", {}), ("domino", {"lambda_w": 0.5})):
        torch.manual_seed(0)
        model = zoo()
        handle = sparsify(model, "2:4", method, steps=STEPS, **hyper)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        handle.bind(optimizer)
        for number in range(STEPS):
            step_of(model, optimizer, number)
        found.append({name: value.clone() for name, value in model.state_dict().items() if "nm_" not in name})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_short_search_of_domino_has_a_vote_for_each_of_m():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32))
    handle = sparsify(model, "1:16", "domino", layers=["0", "1"], steps=400, search=0.5, decay=10.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle.bind(optimizer)
    handle.start_phase(1)
    kept = []
    for _ in range(199):
        optimizer.zero_grad()
        model(torch.randn(8, 64)).square().mean().backward()
        optimizer.step()
        kept.append(min(handle._weights[0].memory.get("n", 16), handle._weights[1].memory.get("n", 16)))
    assert kept[-1] <= 8, "the votes of a search of 200 steps are not 100 steps apart"
    assert sorted(kept, reverse=True) == kept


def test_shares_of_an_unknown_length_are_asked_for():
    model = nn.Sequential(nn.Linear(8, 8))
    handle = sparsify(model, "2:4", "gmp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle.bind(optimizer)
    model(torch.randn(2, 8)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"sparsify\(\.\.\., steps=N\)"):
        optimizer.step()
    with pytest.raises(ValueError, match="steps must be a whole number"):
        sparsify(nn.Sequential(nn.Linear(8, 8)), "2:4", "gmp", steps=0)

"""What every pruner promises, and what single ones do beyond the golden data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmbench.sparsity import NMPattern, audit
from nmbench.sparsity.pruning import Columns, Pruner, Statistics, load, names
from nmbench.sparsity.pruning.hessian import relative_error

BUILT_IN = ["admm", "alps", "dsnot", "magnitude", "nowag-p", "pruner-zero", "ria", "sparsegpt", "wanda"]


def problem(size: int = 10, rows: int = 12, tokens: int = 60, seed: int = 0) -> tuple[torch.Tensor, Statistics]:
    """Correlated inputs with a mean, so that there is something to make good."""
    made = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, size, generator=made) @ torch.randn(size, size, generator=made) + 0.5
    stats = Statistics(sequences=4, gradient=torch.rand(rows, size, generator=made))
    stats.add(mixed, frozenset({"gram"}))
    return torch.randn(rows, size, generator=made), stats


def test_they_are_found_by_name():
    assert set(BUILT_IN) <= set(names())
    with pytest.raises(ValueError, match="unknown pruner 'wandb'; did you mean 'wanda'"):
        load("wandb")


@pytest.mark.parametrize("name", BUILT_IN)
@given(n=st.integers(1, 4), m=st.sampled_from([4, 8]), runs=st.integers(1, 2), size=st.integers(4, 19))
def test_no_group_keeps_more_than_n_short_ones_neither(name, n, m, runs, size):
    weight, stats = problem(runs * size)
    columns = Columns(NMPattern(n, m), size)
    pruned, mask = load(name)().prune(weight, stats, columns)
    for start, end in columns.groups(runs * size):
        assert int(mask[:, start:end].sum(1).max()) == min(n, end - start)
    assert not pruned[~mask].any()
    assert torch.isfinite(pruned).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_n_equal_to_m_prunes_nothing(name):
    weight, stats = problem(8)
    pruned, mask = load(name)().prune(weight, stats, Columns(NMPattern(4, 4), 8))
    assert mask.all()
    torch.testing.assert_close(pruned, weight, rtol=1e-2, atol=1e-2)


def test_those_that_update_weights_lose_less_than_those_that_rank():
    weight, stats = problem(16, rows=24, tokens=200)
    assert stats.gram is not None
    columns = Columns(NMPattern(2, 4), 16)
    lost = {
        name: relative_error(weight, load(name)().prune(weight, stats, columns)[0], stats.gram)[0] for name in BUILT_IN
    }
    assert max(lost[name] for name in ("sparsegpt", "admm", "alps")) < min(
        lost["wanda"], lost["ria"], lost["magnitude"]
    )
    assert lost["alps"] <= lost["admm"] * 1.05


def test_dsnot_lowers_the_expected_error_of_rows_and_keeps_its_sign():
    weight, stats = problem(64, rows=32, tokens=500)
    assert stats.total is not None
    columns = Columns(NMPattern(1, 4), 64)
    wanda = load("wanda")().prune(weight, stats, columns)[0]
    swapped = load("dsnot")().prune(weight, stats, columns)[0]
    before, after = ((weight - pruned) @ stats.total for pruned in (wanda, swapped))
    assert float(after.abs().mean()) < 0.7 * float(before.abs().mean())
    assert torch.equal(before.sign(), after.sign())
    assert torch.equal(load("dsnot")(cycles=0).prune(weight, stats, columns)[0], wanda)


def test_sparsegpt_does_not_need_a_block_that_m_divides():
    weight, stats = problem(40)
    columns = Columns(NMPattern(2, 4), 40)
    whole, parts = (load("sparsegpt")(block=block).prune(weight, stats, columns)[0] for block in (40, 6))
    torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-4)


def test_a_singular_hessian_is_damped_further_and_said():
    weight, stats = problem(32, tokens=5)
    pruned, _ = load("sparsegpt")(damp=0.0).prune(weight, stats, Columns(NMPattern(2, 4), 32))
    assert torch.isfinite(pruned).all()
    assert stats.damp is not None
    assert stats.damp >= 1e-4


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sparsegpt", {"damp": -1}, "pruner 'sparsegpt': damp must be at least 0"),
        ("sparsegpt", {"block": 0}, "block must be at least 1"),
        ("ria", {"b": 1}, "pruner 'ria' has no setting 'b'"),
        ("wanda", {"a": 1}, "pruner 'wanda' has no setting 'a'; it takes none"),
    ],
)
def test_unknown_settings_and_those_out_of_range_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name)(**settings)


def test_a_pruner_that_did_not_say_what_it_needs_is_told():
    weight, _ = problem(8)
    with pytest.raises(ValueError, match="no gram was collected: name it in the pruner's `needs`"):
        load("sparsegpt")().prune(weight, Statistics(), Columns(NMPattern(2, 4), 8))


def test_a_pruner_of_ones_own_is_a_score():
    class Later(Pruner):
        name = "later"
        needs = frozenset()

        def score(self, weight, stats):
            return torch.arange(weight.shape[1]) - 100.0 + 0 * weight

    weight, stats = problem(10)
    pruned, _ = Later().prune(weight, stats, Columns(NMPattern(1, 4), 10))
    assert pruned.nonzero()[:, 1].unique().tolist() == [3, 7, 9]
    assert audit({"w": pruned}, "1:4").ok

"""Pruners and the permutation search against what the authors' code made of the same inputs (tests/golden/pruning)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nmbench.sparsity import NMPattern
from nmbench.sparsity.permutation import deal, find, kept
from nmbench.sparsity.pruning import Columns, Statistics, load
from nmbench.sparsity.pruning.hessian import relative_error

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "pruning" / "pruners.safetensors")
WEIGHT, INPUTS = GOLDEN["weight"], GOLDEN["inputs"]


def statistics(*needs: str) -> Statistics:
    """Of the golden inputs, fed sample by sample."""
    stats = Statistics(sequences=len(INPUTS))
    for sample in INPUTS:
        stats.add(sample, frozenset(needs))
    return stats


def columns(pattern: str) -> Columns:
    return Columns(NMPattern.parse(pattern), WEIGHT.shape[1])


def cases(name: str) -> list[str]:
    return sorted(key for key in GOLDEN if key.startswith(f"{name}/"))


@pytest.mark.parametrize("key", cases("wanda"))
def test_wanda_is_bit_equal(key):
    pruned, mask = load("wanda")().prune(WEIGHT, statistics("norm"), columns(key.split("/")[1]))
    assert torch.equal(pruned, GOLDEN[key])
    assert torch.equal(mask, GOLDEN[key] != 0)


def test_ria_ranks_and_deals_alike():
    score = load("ria")().score(WEIGHT, statistics("norm"))
    torch.testing.assert_close(score, GOLDEN["ria/score"], rtol=1e-5, atol=1e-7)
    assert torch.equal(deal(GOLDEN["ria/score"], 4), GOLDEN["ria/deal"])


def test_pruner_zero_ranks_alike():
    score = load("pruner-zero")().score(WEIGHT, Statistics(gradient=GOLDEN["pruner-zero/gradient"]))
    torch.testing.assert_close(score, GOLDEN["pruner-zero/score"], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("key", cases("sparsegpt"))
def test_sparsegpt_has_their_masks_and_their_weights(key):
    _, pattern, block = key.split("/")
    pruned, mask = load("sparsegpt")(block=int(block)).prune(WEIGHT, statistics("gram"), columns(pattern))
    assert torch.equal(mask, GOLDEN[key] != 0)
    assert float((pruned - GOLDEN[key]).norm()) < 1e-3 * float(GOLDEN[key].norm())


def test_admm_has_their_mask_and_their_weights():
    expected = GOLDEN["admm/2:4"]
    pruned, mask = load("admm")().prune(WEIGHT, statistics("gram"), columns("2:4"))
    assert torch.equal(mask, expected != 0)
    assert float((pruned - expected).norm()) < 1e-3 * float(expected.norm())


@pytest.mark.parametrize("key", cases("alps"))
def test_alps_reconstructs_as_well(key):
    stats = statistics("gram")
    assert stats.gram is not None
    pruned, _ = load("alps")().prune(WEIGHT, stats, columns(key.split("/")[1]))
    mine, _ = relative_error(WEIGHT, pruned, stats.gram)
    theirs, _ = relative_error(WEIGHT, GOLDEN[key], stats.gram)
    assert mine < 1.01 * theirs


@pytest.mark.parametrize("name", ["a", "small"])
def test_the_search_for_an_order_keeps_what_theirs_keeps(name):
    score, pattern = GOLDEN[f"permutation/{name}.matrix"].abs(), NMPattern(2, 4)
    as_it_is, best = GOLDEN[f"permutation/{name}.kept"][:2].tolist()
    assert kept(score, pattern) == pytest.approx(as_it_is, rel=1e-6)
    order = find(score, pattern)
    assert sorted(order.tolist()) == list(range(score.shape[1]))
    assert kept(score[:, order], pattern) >= best * (1 - 1e-6)

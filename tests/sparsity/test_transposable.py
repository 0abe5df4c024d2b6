"""Masks of tiles: transposable ones against exact optima and the authors' integer programme; V:N:M ones."""

import numpy as np
import pytest
import torch
from golden import golden
from scipy import sparse
from scipy.optimize import linear_sum_assignment, linprog
from torch import nn

from nmbench.sparsity import audit, sparsify
from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.methods.tiles import transposable_mask
from nmbench.sparsity.tiling import Tiling

PATTERNS = ["1:4", "2:4", "1:8", "4:8", "5:8", "1:16", "2:16", "8:16"]


def best_of(block, n):
    """The largest sum of n in each row and column: a linear programme, whose vertices are integral."""
    block, m = block.double().numpy(), len(block)
    if n == 1:
        return block[linear_sum_assignment(block, maximize=True)].sum()
    rows = sparse.vstack([sparse.kron(sparse.eye(m), np.ones((1, m))), sparse.kron(np.ones((1, m)), sparse.eye(m))])
    return -linprog(-block.ravel(), A_eq=rows.tocsr(), b_eq=np.full(2 * m, float(n)), bounds=(0, 1)).fun


def scores(m, count=6):
    """Tiles of scores as they come: even, of weights, with outliers, nearly alike, with ties, uneven rows, zeros."""
    generator = torch.Generator().manual_seed(m)
    even, normal, other = (torch.rand(count, m, m, generator=generator) for _ in range(3))
    normal = torch.erfinv(normal)  # |x| of a Gaussian x
    return {
        "uniform": even,
        "normal": normal,
        "outliers": normal / other.clamp(min=0.05),
        "alike": 1 + 0.01 * even,
        "ties": (4 * even).floor(),
        "rows": normal * torch.exp(3 * other[:, :, :1]),
        "both axes": normal * torch.exp(3 * (other[:, :, :1] + even[:, :1])),
        "mostly zero": normal * (other < 0.15),
        "zero": torch.zeros_like(even),
        "one": torch.zeros_like(even).index_fill_(1, torch.tensor([0]), 1e-30),
    }


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_mask_of_every_tile_is_the_best(pattern):
    n, m = map(int, pattern.split(":"))
    tiles = scores(m)
    mask = transposable_mask(torch.cat(list(tiles.values())), n)
    assert (mask.sum(1) == n).all()
    assert (mask.sum(2) == n).all()
    for (name, part), own in zip(tiles.items(), mask.split(len(tiles["uniform"])), strict=True):
        kept = (part * own).double().sum((1, 2))
        best = torch.tensor([best_of(block, n) for block in part], dtype=torch.float64)
        torch.testing.assert_close(kept, best, rtol=2e-5, atol=0, msg=f"{pattern}, {name}: {kept / best}")


def test_no_tile_changes_another():
    tiles = scores(8)["normal"]
    alone = torch.cat([transposable_mask(tile[None], 4) for tile in tiles])
    assert torch.equal(transposable_mask(tiles, 4), alone)
    assert transposable_mask(tiles[:0], 4).shape == (0, 8, 8)


def test_it_keeps_what_the_authors_integer_programme_keeps():
    data = golden("transposable/hubara")
    patterns = [key.removesuffix(".optimal_ip") for key in data if key.endswith(".optimal_ip")]
    assert patterns
    for pattern in patterns:
        n, blocks = int(pattern.split(":")[0]), data[f"{pattern}.blocks"].abs()
        kept = (blocks * transposable_mask(blocks, n)).sum((1, 2))
        torch.testing.assert_close(kept, (blocks * data[f"{pattern}.optimal_ip"]).sum((1, 2)), rtol=2e-5, atol=0)


TILINGS = [
    ((12, 8), Grouping(1), Grouping(0)),
    ((12, 8, 3, 2), Grouping(1), Grouping(0, 3)),
    ((12, 10, 2), Grouping(0, 2), Grouping(1)),
    ((3, 5, 8), Grouping(2), Grouping(1)),
]


@pytest.mark.parametrize(("shape", "grouping", "outputs"), TILINGS)
def test_tiles_hold_outputs_and_inputs_of_one_product(shape, grouping, outputs):
    tiling = Tiling(grouping, outputs, 4, 4)
    groups = max(grouping.groups, outputs.groups)
    index = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"), -1).flatten(0, -2)
    places = torch.arange(1.0, len(index) + 1).view(shape)
    tiles = tiling.split(places)
    assert torch.equal(tiling.join(tiles, places), places)
    for tile in tiles:
        found = index[tile[tile > 0].long() - 1]
        others = [dim for dim in range(len(shape)) if dim not in (grouping.dim, outputs.dim)]
        assert len({tuple(place) for place in found[:, others].tolist()}) <= 1
        assert len((found[:, 0] // (shape[0] // groups)).unique()) == 1 or groups == 1
        assert all(len(index[row[row > 0].long() - 1][:, outputs.dim].unique()) <= 1 for row in tile)
        assert all(len(index[row[row > 0].long() - 1][:, grouping.dim].unique()) <= 1 for row in tile.t())


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 12, 16))

    def forward(self, x):
        return torch.einsum("eoi,bi->beo", self.up, x)


@pytest.mark.parametrize(("method", "settings"), [("transposable", {}), ("vnm", {"v": 5}), ("vnm", {"v": 1000})])
def test_weights_of_three_dimensions_are_tiled_along_the_one_that_is_named(method, settings):
    model = Experts()
    handle = sparsify(model, "2:8", method, layers={"up": 2}, **settings)
    handle.finalize()
    report = audit(model, "2:8", handle.layers)
    assert report.ok
    assert report.nonzeros == 3 * 12 * 4 or method == "transposable"


def test_rows_of_v_n_m_share_their_columns_and_the_audit_says_so():
    model = nn.Sequential(nn.Conv2d(16, 12, 2), nn.Flatten(), nn.Linear(12, 9))
    handle = sparsify(model, "2:8", "vnm", v=4)
    handle.finalize()
    report = audit(model, "2:8", handle.layers)
    assert report.ok
    assert [line.groups for line in report.layers] == [12 * 2 * 4 + 3 * 2 * 4, 9 * 2 + 3 * 2]
    with torch.no_grad():
        model[2].weight[:4, :8] = torch.eye(8)[:4] + torch.eye(8)[4:]  # 2 of 8 in each row, all 8 columns of the tile
    report = audit(model, "2:8", handle.layers)
    assert [line.violations for line in report.layers] == [0, 1]
    assert not report.ok
    assert audit(model, "2:8").ok


def test_tiles_taller_than_makes_sense_are_refused():
    with pytest.raises(ValueError, match="method 'vnm': v must be at least 1 and at most 1024"):
        sparsify(nn.Linear(8, 8), "2:8", "vnm", v=10**9)

"""Sparse architecture divergence (SAD): how many weights enter or leave the network while it trains.

Two quantities, kept apart: the *flips* of each optimizer step (and their running sum), and the SAD of two snapshots,
SAD(i, j) = L1 distance of the binary masks after steps i and j.
"""

import torch
from torch import Tensor


def _pack(mask: Tensor) -> Tensor:
    """bool of any shape -> uint8, eight mask entries a byte, on the CPU."""
    flat = mask.detach().reshape(-1).to("cpu", torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).reshape(-1, 8)
    return (flat << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


_ONES = torch.tensor([i.bit_count() for i in range(256)], dtype=torch.int64)


#: counts on a GPU are some hundred bytes each until they are read, and reading waits for it: once in so many steps
_UNREAD = 256


def _read(rows: list[list[int | Tensor]]) -> Tensor:
    """int64 (steps, layers), on the CPU: with one wait for each device, not one for each count."""
    flat = [count for row in rows for count in row]
    found = torch.tensor([0 if isinstance(count, Tensor) else count for count in flat], dtype=torch.int64)
    by_device: dict[torch.device, list[int]] = {}
    for index, count in enumerate(flat):
        if isinstance(count, Tensor):
            by_device.setdefault(count.device, []).append(index)
    for indices in by_device.values():
        found[indices] = torch.stack([torch.as_tensor(flat[i]).reshape(()) for i in indices]).to("cpu", torch.int64)
    return found.reshape(len(rows), len(rows[0]))


class SAD:
    """Flips by step and layer, and snapshots of masks.

    names: of the sparse weights. sizes: their numbers of elements. Counts stay on their device until they are read, at
    most 256 steps long.
    uncounted: steps of which no flips are known: they were done elsewhere, or are as if they had been.
    """

    def __init__(self, names: list[str], sizes: list[int]) -> None:
        self.names = names
        self.sizes = sizes
        self._done = torch.zeros((0, len(names)), dtype=torch.int64)
        self._pending: list[list[int | Tensor]] = []
        self.snapshots: dict[int, list[Tensor]] = {}
        self.uncounted = 0

    # -- writing ------------------------------------------------------------------------------------------------
    def append(self, flips: list[int | Tensor]) -> None:
        """Add one optimizer step: the flips of each layer."""
        self._pending.append(flips)
        if len(self._pending) >= _UNREAD:
            _ = self.table

    def skip(self, steps: int) -> None:
        """`steps` optimizer steps went by unseen: zeros in the table, and counted in `uncounted`."""
        self.uncounted += steps
        self._done = torch.cat([self.table, torch.zeros((steps, len(self.names)), dtype=torch.int64)])

    def forget(self) -> None:
        """As if all steps so far had gone by unseen; the first and the last snapshot stay."""
        steps = len(self.table)
        self._done, self.uncounted = torch.zeros_like(self.table), steps
        self.snapshots = {step: masks for step, masks in self.snapshots.items() if step in (0, steps)}

    def take_snapshot(self, step: int, masks: list[Tensor]) -> None:
        """Keep the masks after `step` optimizer steps, packed to bits."""
        self.snapshots[step] = [_pack(mask) for mask in masks]

    # -- reading ------------------------------------------------------------------------------------------------
    @property
    def table(self) -> Tensor:
        """int64 (steps, layers): flips of each step and layer."""
        if self._pending:
            self._done = torch.cat([self._done, _read(self._pending)])
            self._pending = []
        return self._done

    @property
    def total(self) -> int:
        """Flips summed over all steps and layers."""
        return int(self.table.sum())

    @property
    def per_layer(self) -> dict[str, int]:
        """Flips summed over all steps, by layer."""
        return dict(zip(self.names, self.table.sum(0).tolist(), strict=True))

    @property
    def history(self) -> list[int]:
        """Flips of each step, summed over layers."""
        steps: list[int] = self.table.sum(1).tolist()
        return steps

    @property
    def weights(self) -> int:
        """Number of weights under the masks."""
        return sum(self.sizes)

    @property
    def per_weight(self) -> float:
        """`total` divided by the number of weights: how often the average weight changed sides."""
        return self.total / self.weights if self.weights else 0.0

    def between_per_layer(self, i: int, j: int) -> dict[str, int]:
        """SAD(i, j) by layer. Raises KeyError if no snapshot was taken after step i or j."""
        for step in (i, j):
            if step not in self.snapshots:
                raise KeyError(f"no snapshot after step {step}; there are: {sorted(self.snapshots)}")
        pairs = zip(self.names, self.snapshots[i], self.snapshots[j], strict=True)
        return {name: int(_ONES[(a ^ b).long()].sum()) for name, a, b in pairs}

    def between(self, i: int, j: int) -> int:
        """SAD(i, j): L1 distance of the masks after steps i and j, over all layers. Raises KeyError as above."""
        return sum(self.between_per_layer(i, j).values())

    # -- resume -------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, object]:
        """Tensors, lists and numbers only."""
        snapshots = {k: list(v) for k, v in self.snapshots.items()}
        return {"table": self.table.clone(), "snapshots": snapshots, "uncounted": self.uncounted}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the history of an earlier run. Raises ValueError if it has another number of layers."""
        table, snapshots = state["table"], state["snapshots"]
        assert isinstance(table, Tensor)
        assert isinstance(snapshots, dict)
        if table.shape[1] != len(self.names):
            raise ValueError(f"the saved SAD has {table.shape[1]} layers, this model has {len(self.names)}")
        self._done, self._pending = table.clone(), []
        self.uncounted = int(str(state.get("uncounted", 0)))
        self.snapshots = {int(k): list(v) for k, v in snapshots.items()}

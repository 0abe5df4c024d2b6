"""The core's own tests of "never stale" and "once a step" hold where the fused passes run, here interpreted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SPARSITY = Path(__file__).parents[1] / "sparsity"
SCRIPT = """
import sys
from collections import Counter
import pytest
from nmbench.sparsity.fast.triton_decay import Decay
from nmbench.sparsity.fast.triton_mask import Renewal

launches = Counter()
def counted(cls):
    run = cls.run
    def counting(self, *args):
        launches[cls.__name__] += 1
        return run(self, *args)
    cls.run = counting
counted(Decay), counted(Renewal)
status = pytest.main(sys.argv[1:])
print("launches", launches["Renewal"], launches["Decay"])
sys.exit(status)
"""
CHOSEN = (
    "there_and_back or another_ or between_two_uses or held or one_masked or tied or edit_one_element "
    "or accumulation or used_often or closure_makes or skips"
)


def run(*arguments: str) -> list[int]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "NMBENCH_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "launches"
    return [int(number) for number in last[1:]]


@pytest.mark.slow
def test_never_stale_and_once_a_step() -> None:
    renewals, terms = run(str(SPARSITY / "test_never_stale.py"), str(SPARSITY / "test_once.py"), "-k", CHOSEN)
    assert renewals > 100
    assert terms > 10


@pytest.mark.slow
def test_launches_of_a_training_step(tmp_path: Path) -> None:
    """Two renewals and one term a step, whatever the number of layers: this is what the documentation promises."""
    (tmp_path / "test_steps.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "from nmbench.sparsity import nm_mask, sparsify\n"
        "def test_steps():\n"
        "    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(5)))\n"
        "    optimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "    handle = sparsify(model, '2:4', 'sr-ste')\n"
        "    handle.bind(optimizer)\n"
        "    for _ in range(3):\n"
        "        optimizer.zero_grad()\n"
        "        model(torch.randn(4, 16)).square().mean().backward()\n"
        "        optimizer.step()\n"
        "    dense = dict(model.named_parameters())\n"
        "    assert all(torch.equal(mask, nm_mask(dense[name], '2:4')) for name, mask in handle.masks.items())\n"
    )
    renewals, terms = run(str(tmp_path / "test_steps.py"))
    assert terms == 3
    assert renewals == 1 + 1 + 2 * 3  # when it is made: the masks, and the first snapshot


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_graph_has_one_masked_pass_a_weight(tmp_path: Path, backend: str) -> None:
    """Bits as in the eager model, gradients too, in one graph; each rule and axis."""
    (tmp_path / "test_graph.py").write_text(
        "import copy, pytest, torch\n"
        "from torch import nn\n"
        "from nmbench.sparsity import sparsify\n"
        "from nmbench.sparsity.fast import fused\n"
        "@pytest.mark.parametrize('text', ['2:4', '1:16', '3:5', '2:4@kernel'])\n"
        "def test_graph(text, monkeypatch):\n"
        "    torch.compiler.reset()\n"
        "    layers = [nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)]\n"
        "    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)\n"
        "    twin, x = copy.deepcopy(model), torch.randn(4, 16, 4, 4)\n"
        "    ran, masked = [], fused.masked\n"
        "    monkeypatch.setattr(fused, 'masked', lambda *a: ran.append(1) or masked(*a))\n"
        "    pair = []\n"
        f"    for one, wrap in ((model, lambda m: torch.compile(m, backend={backend!r}, fullgraph=True)),\n"
        "                      (twin, lambda m: m)):\n"
        "        optimizer = torch.optim.SGD(one.parameters(), 0.5)\n"
        "        handle = sparsify(one, text, 'sr-ste', lambda_w=0.1)\n"
        "        handle.bind(optimizer)\n"
        "        fast = wrap(one)\n"
        "        for _ in range(3):\n"
        "            optimizer.zero_grad()\n"
        "            y = fast(x)\n"
        "            y.square().mean().backward()\n"
        "            optimizer.step()\n"
        "        pair.append((y, handle.sad.table, *one.parameters()))\n"
        "        assert len(ran) == (3 if 'kernel' in text else 6)  # a channels_last weight has no flat order\n"
        "    for a, b in zip(*pair, strict=True):\n"
        "        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)\n"
    )
    renewals, terms = run(str(tmp_path / "test_graph.py"))
    assert renewals > 4 * 6
    assert terms == 4 * 2 * 3

"""python -m nmbench.kernels.bench OPTIONS FOLDER: a run on the visible GPU without the command line's packages.

OPTIONS is JSON of nmbench.kernels.bench.options.Options, FOLDER where the results go. Exit status 2: nothing ran.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from nmbench._util.errors import UsageError
from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.record import write
from nmbench.kernels.bench.run import available, run


def main(arguments: list[str]) -> int:
    """Run, write, and print one line."""
    try:
        options = Options.from_dict(json.loads(arguments[0]))
        backends, refused = available(options.backends)
    except UsageError as error:
        print(f"nmbench kernels: {error}", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("nmbench kernels: no GPU is visible; nothing ran", file=sys.stderr)
        return 2
    to = Path(arguments[1])
    record = run(options, torch.device("cuda"), backends, refused, save=lambda record: print(*write(record, to)))
    print(f"{len(record['cells'])} of {record['planned']} cells measured, in {to}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

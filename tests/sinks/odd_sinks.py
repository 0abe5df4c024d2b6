"""Sinks that behave and misbehave in every way; `test_sinks.py` installs them for the processes that it starts."""

import os
import sys
import time
from pathlib import Path

from nmbench.sinks import Sink


class Notes(Sink):
    """Writes one line an attempt into notes.txt."""

    def open(self, folder, matrix):
        self.file = (folder / "notes.txt").open("a")
        print("opened for", matrix)

    def write(self, cell):
        self.file.write(f"{cell.status} {cell.name} {min(cell.metrics, default='-')} {Path(cell.folder).name}\n")
        self.file.flush()

    def close(self):
        self.file.write("closed\n")


class Refuses(Sink):
    def open(self, folder, matrix):
        raise PermissionError("nobody is logged in,\n go away")


class FullDisk(Sink):
    def write(self, cell):
        raise OSError(28, "No space left on device")


class Leaves(Sink):
    def write(self, cell):
        sys.exit("enough")


class Dies(Sink):
    def write(self, cell):
        os.kill(os.getpid(), 9)


class Hangs(Sink):
    def write(self, cell):
        time.sleep(600)


class Needs(Sink):
    requires = ("nowhere-to-be-found|nor-this-one",)
    install = "pip install 'nmbench[nowhere]'"

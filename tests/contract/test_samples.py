"""Samples of a stranger's results folder: whatever the bytes of an image say, it is shown or it cannot be."""

import base64
import binascii
import json
import resource
import struct
import zlib

import pytest

from nmbench.contract import samples


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))


def _png(side: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [0, 3, 5_000, 13_000, 60_000, 2**31 - 1])
def test_an_image_that_says_that_it_is_huge_is_not_decoded(tmp_path, side):
    picture = "data:image/png;base64," + base64.b64encode(_png(side, zlib.compress(b""))).decode()
    file = tmp_path / "samples.json"
    file.write_text(json.dumps({"samples": [{"name": "a", "given": {"i": {"image": picture}}, "output": {}}]}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"decoded"):
        samples.read(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "KiB"

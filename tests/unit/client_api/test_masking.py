"""The heads of WebSocket frames are found wherever the packets are cut."""

import struct

import pytest

from client_api.masking import FrameHeads


def frame(size: int, masked: bool = True) -> bytes:
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((0x81, bit | size))
    elif size < 65536:
        head = bytes((0x81, bit | 126)) + struct.pack(">H", size)
    else:
        head = bytes((0x81, bit | 127)) + struct.pack(">Q", size)
    return head + (b"\x01\x02\x03\x04" if masked else b"") + b"\x81\x01" * (size // 2) + b"\x81" * (size % 2)


GOOD = b"".join(frame(size) for size in (0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, 0))


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 10, 11, 126, 4096, len(GOOD)])
def test_masked_frames_pass_and_the_first_other_does_not(cut: int) -> None:
    heads = FrameHeads()
    assert all(heads.are_masked(GOOD[start : start + cut]) for start in range(0, len(GOOD), cut))
    bad = frame(5, masked=False)
    assert not all(heads.are_masked(bad[start : start + cut]) for start in range(0, len(bad), cut))

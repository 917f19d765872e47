"""Damage inside a JPEG that every decoder passes over without a word.

A JPEG has no checksum. Where bytes in its middle were lost or overwritten, decoders find their way back
after a while and go on, with blocks at the wrong place and of wrong colours. What gives the damage away is
the count: the codes no longer add up to as many blocks as the picture has. So the codes are followed here
from the first to the last, without computing a single pixel.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SEQUENTIAL = frozenset({0xC0, 0xC1})
END_OF_BLOCK = 100  # the steps of a block add up to 64, or to more than 100 where it ends early
NO_CODE = 200
RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
END_OF_SCAN = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)

Bits = NDArray[np.uint8]


@dataclass
class _Component:
    """How one colour is sampled: blocks across and down in a unit of the scan."""

    across: int
    down: int


@dataclass
class _Picture:
    """What stands before the codes."""

    size_hw: tuple[int, int] = (0, 0)
    components: dict[int, _Component] = field(default_factory=dict)
    tables: dict[int, tuple[Bits, Bits]] = field(default_factory=dict)
    restart_units: int = 0


def find_jpeg_damage(data: bytes) -> str | None:
    """What is wrong with the codes of a JPEG; "" where nothing is, None where this cannot tell.

    Lost, repeated and overwritten kilobytes are found, most overwritten dozens of bytes, and one flipped
    bit in five: a change that keeps the count of codes shows in the colours only. Progressive and arithmetic
    JPEGs are not looked into. It takes about 0.2 seconds a megabyte.

    Args:
        data: the whole file.

    Source:
        ITU-T T.81, annex F.2.2: the decoding of sequential scans.
    """
    picture, at = _Picture(), 2
    found: str | None = None  # until there was a scan
    try:
        while True:
            marker, length = data[at + 1], 2
            if data[at] != 0xFF:
                return found
            if marker == 0xFF:
                at += 1
                continue
            if marker == 0xD9:
                return found
            if marker not in (0x01, *range(0xD0, 0xD8)):
                (length,) = struct.unpack_from(">H", data, at + 2)
                length += 2
            body = data[at + 4 : at + length]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                if marker not in SEQUENTIAL or body[0] != 8:
                    return None
                _read_frame(body, picture)
            elif marker == 0xC4:
                _read_tables(body, picture)
            elif marker == 0xDD:
                (picture.restart_units,) = struct.unpack(">H", body)
            at += length
            if marker == 0xDA:
                end = END_OF_SCAN.search(data, at)
                if end is None:
                    return "its codes end before the picture does"
                found = _scan_damage(body, data[at : end.start()], picture)
                if found:
                    return found
                at = end.start()
    except (ArithmeticError, LookupError, ValueError, struct.error):
        return None  # a header that nobody can follow is for others to report


def _read_frame(body: bytes, picture: _Picture) -> None:
    _, height, width, count = struct.unpack_from(">BHHB", body)
    picture.size_hw = (height, width)
    for i in range(6, 6 + 3 * count, 3):
        picture.components[body[i]] = _Component(body[i + 1] >> 4, body[i + 1] & 15)


def _read_tables(body: bytes, picture: _Picture) -> None:
    """Huffman tables, as steps for every 16 bits that can come: bits to go on by, and coefficients."""
    at = 0
    while at < len(body):
        name, counts = body[at], body[at + 1 : at + 17]
        symbols = body[at + 17 : at + 17 + sum(counts)]
        bits, coefficients = np.zeros(1 << 16, np.uint8), np.full(1 << 16, NO_CODE, np.uint8)
        code = number = 0
        for length, count in enumerate(counts, 1):
            for symbol in symbols[number : number + count]:
                run, size = symbol >> 4, symbol & 15
                low, high = code << (16 - length), (code + 1) << (16 - length)
                bits[low:high] = length + (size if name >> 4 else symbol)
                ends = name >> 4 and size == 0 and run != 15
                coefficients[low:high] = END_OF_BLOCK if ends else run + 1
                code += 1
            number += count
            code <<= 1
        picture.tables[name] = (bits, coefficients)
        at += 17 + sum(counts)


def _scan_damage(body: bytes, codes: bytes, picture: _Picture) -> str:
    height, width = picture.size_hw
    named = [(body[1 + 2 * i], body[2 + 2 * i]) for i in range(body[0])]
    most_across = max(c.across for c in picture.components.values())
    most_down = max(c.down for c in picture.components.values())
    tables: list[tuple[int, int]] = []
    if len(named) == 1:  # alone, a colour comes block by block
        one = picture.components[named[0][0]]
        across = math.ceil(math.ceil(width * one.across / most_across) / 8)
        down = math.ceil(math.ceil(height * one.down / most_down) / 8)
        tables = [(named[0][1] >> 4, named[0][1] & 15)]
    else:
        across, down = math.ceil(width / (8 * most_across)), math.ceil(height / (8 * most_down))
        for name, table in named:
            one = picture.components[name]
            tables += [(table >> 4, table & 15)] * (one.across * one.down)
    left = across * down
    parts = RESTART.split(codes) if picture.restart_units else [codes]
    expected = math.ceil(left / picture.restart_units) if picture.restart_units else 1
    if len(parts) != expected:
        return f"it is written in {expected} parts, and {len(parts)} are there"
    for part in parts:
        units = min(left, picture.restart_units or left)
        left -= units
        damage = _part_damage(part, units, tables, picture)
        if damage:
            return damage
    return ""


def _part_damage(part: bytes, units: int, tables: list[tuple[int, int]], picture: _Picture) -> str:
    """Follow the codes of so many units; every step of every bit is looked up beforehand, all at once."""
    plain = part.replace(b"\xff\x00", b"\xff")
    padded = np.frombuffer(plain + b"\xff\xff", np.uint8).astype(np.uint32)
    windows = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    coming = (windows[:, None] >> np.arange(8, 0, -1, dtype=np.uint32) & 0xFFFF).astype(np.uint16).reshape(-1)
    steps: dict[int, tuple[bytes, bytes]] = {}
    for name in {t for first, rest in tables for t in (first, 0x10 | rest)}:
        bits, coefficients = picture.tables[name]
        steps[name] = (bits[coming].tobytes(), coefficients[coming].tobytes())
    plan = [(*steps[first], *steps[0x10 | rest]) for first, rest in tables]
    at = 0
    try:
        for _ in range(units):
            for first_bits, first_codes, bits_of, coefficients_of in plan:
                if first_codes[at] == NO_CODE:
                    return "there is a code in it that its tables do not know"
                at += first_bits[at]
                done = 1
                while done < 64:
                    done += coefficients_of[at]
                    at += bits_of[at]
                if done != 64 and not END_OF_BLOCK < done < NO_CODE:
                    return "a block of it has too many coefficients, or a code that its tables do not know"
    except IndexError:
        return "its codes end before the picture does"
    left = len(coming) - at
    return "" if left < 8 else f"its codes go on for {left // 8} bytes after the last block"

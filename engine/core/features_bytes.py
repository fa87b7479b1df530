"""Live features as bytes: the whole memory, with which another process goes on, and what is told, from which a replica screens.

Stands between `features_live` and whoever keeps the bytes. One value each: a head of fixed form, then the arrays as they lie. Bytes of another
version or form, torn or damaged ones, are None: they can be made again from candles.
"""

import struct
import sys
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from engine.core import features_steps as steps
from engine.core.features_live import Figures, LiveFeatures, Told, Track
from engine.core.market import Timeframe

VERSION: Final = 1
"""Raise it whenever the columns of `features_steps.MEMORY` or FIGURES change their meaning."""

_MEMORY: Final = b"NTFM"
_TOLD: Final = b"NTFT"
_HEAD: Final = struct.Struct("<4sHHIII")
"""Kind, version, numbers per symbol and timeframe, symbols, bytes of their names, checksum of what follows the head."""

_ORDER: Final = (Timeframe.M15, Timeframe.H4)
_SWAPPED: Final = sys.byteorder != "little"


def memory_bytes(live: LiveFeatures) -> bytes:
    """All that is needed to go on with the next candle, figures left out: they follow from it. About 1 kB a symbol."""
    arrays = [array for track in (live.quarter, live.four_hour) for array in (track.told.seen, track.told.newest_ms, track.state)]
    return _pack(_MEMORY, steps.MEMORY, live.quarter.symbols, arrays)


def memory_of(packed: bytes) -> LiveFeatures | None:
    """What `memory_bytes` packed, figures and all; None where the bytes cannot be read."""
    parts = _unpack(_MEMORY, steps.MEMORY, packed)
    if parts is None:
        return None
    symbols, body = parts
    tracks = []
    for timeframe, ints, floats in _halves(body, len(symbols)):
        track = Track(symbols, timeframe)
        track.told.seen[:], track.told.newest_ms[:] = ints
        track.state[:] = floats.reshape(steps.MEMORY, len(symbols))
        steps.tell_all(timeframe.ms, track.state, track.told.seen, track.told.newest_ms, track.told.table)
        tracks.append(track)
    return LiveFeatures(*tracks)


def told_bytes(told: Told) -> bytes:
    """All that screening needs. About 0.34 kB a symbol."""
    arrays = [array for figures in (told.quarter, told.four_hour) for array in (figures.seen, figures.newest_ms, figures.table)]
    return _pack(_TOLD, len(steps.FIGURES), told.symbols, arrays)


def told_of(packed: bytes) -> Told | None:
    """What `told_bytes` packed; None where the bytes cannot be read."""
    parts = _unpack(_TOLD, len(steps.FIGURES), packed)
    if parts is None:
        return None
    symbols, body = parts
    quarter, four_hour = (
        Figures(timeframe=timeframe, seen=ints[0], newest_ms=ints[1], table=floats.reshape(len(steps.FIGURES), len(symbols)))
        for timeframe, ints, floats in _halves(body, len(symbols))
    )
    return Told(symbols=symbols, quarter=quarter, four_hour=four_hour)


def _pack(kind: bytes, width: int, symbols: Sequence[str], arrays: Sequence[np.ndarray[Any, Any]]) -> bytes:
    names = "\n".join(symbols).encode()
    parts = [names, *((array.byteswap() if _SWAPPED else array).tobytes() for array in arrays)]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((_HEAD.pack(kind, VERSION, width, len(symbols), len(names), checksum), *parts))


def _unpack(kind: bytes, width: int, packed: bytes) -> tuple[tuple[str, ...], np.ndarray[Any, Any]] | None:
    """The symbols, and the words of eight bytes that follow them."""
    if len(packed) < _HEAD.size:
        return None
    found, version, wide, count, length, checksum = _HEAD.unpack_from(packed)
    whole = _HEAD.size + length + 2 * count * (2 + width) * 8
    if (found, version, wide, len(packed)) != (kind, VERSION, width, whole):
        return None
    if zlib.crc32(memoryview(packed)[_HEAD.size :]) != checksum:
        return None
    names = packed[_HEAD.size : _HEAD.size + length].decode()
    words = np.frombuffer(packed, np.int64, offset=_HEAD.size + length)
    # byteswap copies too; either way the caller may write, and the kernels need not be compiled anew for arrays that may not be written.
    return tuple(names.split("\n")) if count else (), words.byteswap() if _SWAPPED else words.copy()


def _halves(words: Any, count: int) -> list[tuple[Timeframe, Any, Any]]:
    """Of each timeframe: seen and newest_ms, then its floats."""
    halves = words.reshape(2, -1)
    return [
        (timeframe, half[: 2 * count].reshape(2, count), half[2 * count :].view(np.float64))
        for timeframe, half in zip(_ORDER, halves, strict=True)
    ]

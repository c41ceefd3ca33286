"""How many processes of one worker may be busy with one connection at the same time.

A CRM that hangs holds every process that calls it for minutes. With a queue of its own its
messages keep nobody waiting, its running steps would: so they may not take all processes.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from zlib import crc32

_SPREAD: Final = 1024
"""Places of one connection in the file: more than any worker has processes."""


class Slots:
    """The places of all connections of one worker; made before its children are forked.

    A place is a lock on a byte of a nameless file, which the kernel takes back from a process
    that dies in whatever way.

    Args:
        most: Steps of one connection that may run side by side.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, min(most, _SPREAD))
        self._file = _nameless_file()

    @contextmanager
    def of(self, connection: str) -> Iterator[bool]:
        """Take a place for a step of this connection; False: all of them are taken."""
        first = crc32(connection.encode()) * _SPREAD
        for place in range(first, first + self._most):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                continue
            try:
                yield True
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)
            return
        yield False


def places(concurrency: int, connections: int) -> int:
    """Steps of one connection that may run side by side, so that one is left for each other.

    One process is left for computing, too; with few processes a connection has one.
    """
    return max(1, concurrency - connections)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("kpisync-slots")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

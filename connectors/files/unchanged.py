"""Whether files are the ones that were read last: what a cursor of the files connector says.

By name, size, times and place on the disk, as other tools tell it. A file that was written within
the last moments before it was looked at could be written again without any of them changing, so
such a look proves nothing, and the file is read once more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from connectors.base import Cursor

_MOMENTS: Final = 2_000_000_000
"""Nanoseconds; the coarsest clock that file systems still stamp with."""


@dataclass(frozen=True, slots=True)
class Look:
    """What files looked like when a pull began."""

    digest: str
    is_proof: bool
    """Whether a file that looks the same later is the same."""


def look_at(folder: Path, files: Sequence[Path], now: datetime) -> Look:
    """Look at the files of a stream, without reading them.

    Args:
        folder: of the connection.
        files: of the stream.
        now: aware.

    Raises:
        OSError: one of them is gone, or may not be seen.
    """
    seen: list[object] = [str(folder.resolve())]
    newest = 0
    for path in files:
        found = path.stat()
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        seen.append(
            (
                str(path.relative_to(folder)),
                *(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino),
            )
        )
    digest = hashlib.blake2b(json.dumps(seen).encode(), digest_size=16).hexdigest()
    return Look(digest, is_proof=int(now.timestamp() * 1e9) - newest > _MOMENTS)


@dataclass(frozen=True, slots=True)
class Read:
    """What a pull that came to its end had read."""

    digest: str
    """Of the files; empty: of files that may have changed while they were read."""
    warnings: tuple[str, ...] = ()
    unreadable: frozenset[str] = frozenset()
    doubt: str = ""
    """See `connectors.base.Page`."""

    @classmethod
    def of(cls, cursor: str) -> Read:
        """From a cursor."""
        said = json.loads(cursor)
        return cls(
            said["files"],
            tuple(said["warnings"]),
            frozenset(said["unreadable"]),
            said.get("doubt", ""),
        )

    def cursor(self) -> Cursor:
        """As a cursor."""
        return Cursor(
            json.dumps(
                {
                    "files": self.digest,
                    "warnings": self.warnings,
                    "unreadable": sorted(self.unreadable),
                    "doubt": self.doubt,
                }
            )
        )

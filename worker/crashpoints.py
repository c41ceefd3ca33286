"""Named places at which a test may make the process kill itself.

``KPISYNC_TEST=1`` allows ``KPISYNC_CRASH_AT=name:n``: the process sends itself SIGKILL at the n-th
pass of that point. Without the variables a point is one comparison.
"""

from __future__ import annotations

import os
import signal
from typing import Final, NewType

Point = NewType("Point", str)

PAGE_RECEIVED: Final = Point("pull.page_received")
PAGE_MAPPED: Final = Point("pull.page_mapped")
STORE_BEFORE_COMMIT: Final = Point("store.before_commit")
STORE_AFTER_COMMIT: Final = Point("store.after_commit")
COMPUTE_BEFORE_COMMIT: Final = Point("compute.before_commit")
COMPUTE_AFTER_COMMIT: Final = Point("compute.after_commit")
OUTBOX_CLAIMED: Final = Point("outbox.claimed")
OUTBOX_BEFORE_CALL: Final = Point("outbox.before_call")
OUTBOX_AFTER_CALL: Final = Point("outbox.after_call")
OUTBOX_BEFORE_SETTLE: Final = Point("outbox.before_settle")
OUTBOX_AFTER_SETTLE: Final = Point("outbox.after_settle")
LEASE_ACQUIRED: Final = Point("lease.acquired")
LEASE_RENEWED: Final = Point("lease.renewed")

POINTS: Final[tuple[str, ...]] = (
    PAGE_RECEIVED,
    PAGE_MAPPED,
    STORE_BEFORE_COMMIT,
    STORE_AFTER_COMMIT,
    COMPUTE_BEFORE_COMMIT,
    COMPUTE_AFTER_COMMIT,
    OUTBOX_CLAIMED,
    OUTBOX_BEFORE_CALL,
    OUTBOX_AFTER_CALL,
    OUTBOX_BEFORE_SETTLE,
    OUTBOX_AFTER_SETTLE,
    LEASE_ACQUIRED,
    LEASE_RENEWED,
)
"""Every name that ``KPISYNC_CRASH_AT`` knows, in the order in which a pass meets them."""


def _wanted() -> tuple[str, int] | None:
    place = os.environ.get("KPISYNC_CRASH_AT", "")
    if not place or os.environ.get("KPISYNC_TEST") != "1":
        return None
    name, _, passes = place.rpartition(":")
    if name not in POINTS or not passes.isdecimal() or int(passes) < 1:
        raise ValueError(
            f"KPISYNC_CRASH_AT={place!r} names no crash point; write NAME:N with one of "
            + ", ".join(POINTS)
        )
    return name, int(passes)


_crash_at: Final = _wanted()
_passes_of_wanted = 0


def reach(name: str) -> None:
    """Pass a named point; the wanted pass of the wanted point is the process's last act."""
    if _crash_at is None or name != _crash_at[0]:
        return
    global _passes_of_wanted  # noqa: PLW0603 - passes are counted per process
    _passes_of_wanted += 1
    if _passes_of_wanted == _crash_at[1]:
        os.kill(os.getpid(), signal.SIGKILL)

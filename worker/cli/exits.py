"""Exit codes other programs rely on."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell learns."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION_INVALID = 3
    PARTLY_FAILED = 4
    FAIL_ON_HIT = 5
    REFUSED = 6
    CHANGES_PLANNED = 10

"""At which effects a crash leaves something else behind than the crash before it."""

from __future__ import annotations

from tests.simulation.runs import Outcome

_LASTING = ("committed", "done")


def crash_points(outcome: Outcome) -> list[int]:
    """Effects of a scenario whose crash differs from that at the effect before.

    A dead process leaves what it has committed and what it has written into the CRM. Between two
    such effects all crashes are one: the first stands for them.
    """
    return _lasting(outcome, 1, outcome.played)


def pairs(once: Outcome, first: int) -> list[int]:
    """Effects at which a second crash can follow, in the run that crashed at `first`."""
    return _lasting(once, first + 1, once.played_until_quiet)


def _lasting(outcome: Outcome, begin: int, end: int) -> list[int]:
    return [
        number
        for number in range(begin, end + 1)
        if outcome.effects[number - 1].startswith(_LASTING)
    ]

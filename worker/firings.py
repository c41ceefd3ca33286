"""When the configured schedules will fire next."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from config.models import Config
from config.scalars import Cron, Interval
from worker.schedule import next_firing


@dataclass(frozen=True, slots=True, order=True)
class Firing:
    """One instant at which something becomes due."""

    at: datetime
    what: str


def upcoming(config: Config, after: datetime) -> Iterator[Firing]:
    """Every firing after an instant, the next one first, without end.

    Intervals are counted from `after`: a running service counts them from each last attempt.

    Args:
        config: whose schedules.
        after: an aware instant.
    """
    return heapq.merge(
        *(
            _series(what, schedule, after, config.company.timezone)
            for what, schedule in _schedules(config)
        )
    )


def next_of_each(config: Config, after: datetime) -> list[Firing]:
    """When each schedule fires next at the latest, the earliest first."""
    zone = config.company.timezone
    return sorted(
        Firing(next_firing(schedule, after, zone), what) for what, schedule in _schedules(config)
    )


def _schedules(config: Config) -> Iterator[tuple[str, Interval | Cron]]:
    for name, connection in config.connections.items():
        yield f"pull {name}", connection.every
        yield f"reconcile {name}", connection.full_refresh
    for name, writeback in config.writebacks.items():
        yield f"write back {name}", writeback.every
    for name, sink in config.sinks.items():
        yield f"copy to {name}", sink.every
    if config.advanced.verify_nights:
        yield "verify", config.advanced.verify_at


def _series(
    what: str, schedule: Interval | Cron, after: datetime, zone: ZoneInfo
) -> Iterator[Firing]:
    while True:
        after = next_firing(schedule, after, zone)
        yield Firing(after, what)

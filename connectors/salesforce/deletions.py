"""Deletions that queries cannot show: records that have left the bin, or were never in it.

Page: REST API Developer Guide, "Get a List of Deleted Records Within a Given Timeframe". The log
reaches back 15 days, counts in whole minutes, may lag behind for hours and is purged under load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from connectors.errors import MalformedAnswer, RequestRefused
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.faults import TooManyDeletions
from connectors.salesforce.ids import long_id

_MINUTE: Final = timedelta(minutes=1)
_SHORTEST: Final = timedelta(minutes=2)
"""The span must be longer than a minute once its seconds are cut off."""


@dataclass(frozen=True, slots=True)
class DeletionLog:
    """What the log told."""

    ids: Sequence[str] = ()
    """With 18 characters; soft and hard deletions alike."""
    covered_until: datetime | None = None
    """Where the next look has to begin."""
    warnings: Sequence[str] = field(default=())


def read_log(
    client: SalesforceClient, object_name: str, *, start: datetime, end: datetime
) -> DeletionLog:
    """Ids deleted between two instants; the seconds of both are cut off."""
    last = _minute(end)
    first = min(_minute(start), last - _SHORTEST)
    try:
        ids, covered = _ids(client, object_name, first, last)
    except RequestRefused as error:
        warning = _log_is_silent(object_name, first, error)
        return DeletionLog(covered_until=last, warnings=(warning,))
    return DeletionLog(tuple(dict.fromkeys(ids)), min(covered, last))


def _log_is_silent(object_name: str, start: datetime, error: RequestRefused) -> str:
    return (
        f"Salesforce does not tell which {object_name} records were deleted for good since"
        f" {start:%Y-%m-%d %H:%M} UTC ({error.message}). Pull the stream in full once, so that"
        " they are found by their absence."
    )


def _ids(
    client: SalesforceClient, object_name: str, start: datetime, end: datetime
) -> tuple[list[str], datetime]:
    try:
        answer = client.deleted(object_name, start, end)
    except TooManyDeletions:
        middle = _minute(start + (end - start) / 2)
        if middle - start < _SHORTEST or end - middle < _SHORTEST:
            raise
        earlier, _ = _ids(client, object_name, start, middle)
        later, covered = _ids(client, object_name, middle, end)
        return earlier + later, covered
    try:
        ids = [long_id(entry["id"]) for entry in answer["deletedRecords"]]
        covered = datetime.fromisoformat(str(answer["latestDateCovered"]))
    except (KeyError, TypeError, ValueError):
        raise MalformedAnswer(
            client.connection,
            f"The list of deleted {object_name} records is not what it should be.",
        ) from None
    return ids, covered


def _minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)

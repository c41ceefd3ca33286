"""What a first configuration needs to know of a CRM: what it holds, and what may be read of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from config.connections import CONFIGURABLE_STREAMS
from connectors import registry
from connectors.base import (
    Books,
    CheckReport,
    ConnectionSettings,
    Connector,
    DiscoveredField,
    DiscoveredObject,
    Discovers,
    KnowsItsBooks,
    Problem,
    StreamSettings,
)
from connectors.errors import ConnectorError

SECONDS: Final = 45.0
"""After this long no further object is looked at: a first look takes a minute at most."""

_NEVER_PROPOSED: Final = frozenset({"costs"})
_DETAILED: Final = frozenset({"accounts", "contacts", "leads", "deals", "tickets", "contracts"})
"""Streams whose own fields are worth a look."""
_SURVEYS: Final = "survey_responses"
_SURVEY_NAMES: Final = re.compile(r"survey|nps|csat|feedback", re.IGNORECASE)
_MOST_SURVEYS: Final = 2
_SCORES: Final = re.compile(r"score|rating|nps|csat", re.IGNORECASE)
_NUMBERS: Final = frozenset({"int", "double", "number", "percent", "long"})
_DATES: Final = frozenset({"datetime", "date"})

Say = Callable[[str], None]


class CannotLook(Exception):
    """A CRM lets nobody in, or breaks off, with what it says and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class StreamLook:
    """A stream that the CRM could give."""

    name: str
    object: str
    """What it is read from."""
    found: DiscoveredObject | None = None
    """None: nobody looked inside."""
    count: int | None = None
    """None: nobody knows."""
    obstacle: str | None = None
    """Why it cannot be read; None: it can."""
    is_proposed_object: bool = False
    """The object is our guess, not the stream's usual one."""

    @property
    def is_useful(self) -> bool:
        """It can be read, and there is something in it."""
        return self.obstacle is None and self.count != 0


@dataclass(frozen=True, slots=True)
class CrmLook:
    """One CRM after a first look."""

    connection: str
    org_id: str | None
    books: Books
    streams: Sequence[StreamLook]
    write_obstacle: str | None
    """Why KPI values could not be written; None: nothing speaks against it."""
    warnings: Sequence[Problem]
    calls: int
    is_cut_short: bool
    """Time was up before everything had been looked at."""

    def stream(self, name: str) -> StreamLook | None:
        """A stream that is there and not empty."""
        return next((one for one in self.streams if one.name == name and one.is_useful), None)

    def object_of(self, stream: str) -> DiscoveredObject | None:
        """What was found of the object behind a stream."""
        look = self.stream(stream)
        return look.found if look is not None else None


def read_books(settings: ConnectionSettings) -> tuple[Books, int]:
    """What the CRM says of the company, and the calls that took; the login is tried by it.

    Raises:
        CannotLook: nobody is let in, or the CRM cannot be reached.
    """
    connector = registry.connect(settings)
    try:
        if isinstance(connector, KnowsItsBooks):
            return connector.books(), connector.calls.made
        return Books(), connector.calls.made
    except ConnectorError:
        # Only `check` knows what to do about it, in the words of this CRM.
        raise CannotLook(_first_error(connector.check(), settings.name)) from None
    finally:
        connector.close()


def look(
    settings: ConnectionSettings, books: Books, *, written: str, say: Say, deadline: float
) -> CrmLook:
    """Find out what a CRM holds and what may be read and written, with a bounded number of calls.

    Args:
        settings: the connection; its streams do not count.
        books: as `read_books` found them.
        written: the object that KPI values would be written to.
        say: told what is being looked at.
        deadline: of `time.monotonic`; what is left then is left out.

    Raises:
        CannotLook: nobody is let in, or the CRM cannot be reached.
    """
    objects = _readable_streams(settings)
    settings = replace(
        settings,
        streams={name: StreamSettings() for name in objects},
        written_objects=frozenset({written}),
    )
    connector = registry.connect(settings)
    try:
        say(f"{settings.name}: logging in, comparing rights")
        report = connector.check()
        if not report.is_ok and _is_locked_out(report, settings.name):
            raise CannotLook(_first_error(report, settings.name))
        tour = _Tour(connector, report, settings.name, say, deadline)
        streams = [*tour.streams(objects)]
        return CrmLook(
            connection=settings.name,
            org_id=report.org_id,
            books=books,
            streams=streams,
            write_obstacle=_write_obstacle(report, settings.name, streams),
            warnings=[one for one in report.problems if not _is_of_stream(one, settings.name)],
            calls=connector.calls.made,
            is_cut_short=tour.is_cut_short,
        )
    finally:
        connector.close()


def _readable_streams(settings: ConnectionSettings) -> Mapping[str, str]:
    connector = registry.connect(replace(settings, streams={}))
    try:
        known = connector.capabilities.stream_objects
    finally:
        connector.close()
    return {
        name: known[name]
        for name in CONFIGURABLE_STREAMS
        if known.get(name) and name not in _NEVER_PROPOSED
    }


class _Tour:
    """A walk through the objects of one CRM, as long as there is time."""

    def __init__(
        self,
        connector: Connector,
        report: CheckReport,
        connection: str,
        say: Say,
        deadline: float,
    ) -> None:
        self._source = connector if isinstance(connector, Discovers) else None
        self._connection = connection
        self._say = say
        self._deadline = deadline
        self._obstacles = dict(_obstacles(report, connection))
        self._listed = {one.name: one for one in self._objects()}
        self._seen: dict[str, DiscoveredObject] = {}
        self.is_cut_short = False

    def streams(self, objects: Mapping[str, str]) -> Iterator[StreamLook]:
        for stream, name in objects.items():
            obstacle = self._obstacles.get(stream)
            if obstacle is not None:
                yield StreamLook(stream, name, obstacle=obstacle)
                continue
            found = self._inside(name) if stream in _DETAILED else None
            listed = found or self._listed.get(name)
            yield StreamLook(stream, name, found, listed.count if listed else None)
        if _SURVEYS not in objects:
            yield from self._surveys()

    def _objects(self) -> Sequence[DiscoveredObject]:
        if self._source is None:
            return ()
        self._say(f"{self._connection}: listing objects")
        try:
            return self._source.objects()
        except ConnectorError as error:
            self._say(f"{error} Its objects are not listed.")
            return ()

    def _inside(self, name: str) -> DiscoveredObject | None:
        if name in self._seen:
            return self._seen[name]
        if self._source is None or name not in self._listed:
            return None
        if time.monotonic() > self._deadline:
            self.is_cut_short = True
            return None
        self._say(f"{self._connection}: looking at {name}")
        try:
            self._seen[name] = self._source.discover(name)
        except ConnectorError as error:
            self._say(f"{error} {name} is proposed as it is by default.")
            return None
        return self._seen[name]

    def _surveys(self) -> Iterator[StreamLook]:
        """Objects of the company's own that look like answers with a score."""
        named = [
            one.name
            for one in self._listed.values()
            if one.stream is None and one.name.endswith("__c") and _SURVEY_NAMES.search(one.name)
        ]
        for name in named[:_MOST_SURVEYS]:
            found = self._inside(name)
            if found is not None and score_field(found) is not None:
                yield StreamLook(_SURVEYS, name, found, found.count, is_proposed_object=True)
                return


def score_field(found: DiscoveredObject) -> DiscoveredField | None:
    """The field of an object that holds what people answered, if it looks like one."""
    return next(
        (one for one in found.fields if one.type in _NUMBERS and _SCORES.search(one.name)), None
    )


def answered_field(found: DiscoveredObject) -> DiscoveredField | None:
    """The company's own field that tells when people answered."""
    return next((one for one in found.fields if one.is_custom and one.type in _DATES), None)


# ---------------------------------------------------------------- what `check` said


def _is_locked_out(report: CheckReport, connection: str) -> bool:
    return report.org_id is None or any(
        one.is_error and one.place == f"connections.{connection}" for one in report.problems
    )


def _first_error(report: CheckReport, connection: str) -> Problem:
    errors = [one for one in report.problems if one.is_error]
    return (
        errors[0]
        if errors
        else Problem(
            place=f"connections.{connection}",
            message="The CRM broke off.",
            remedy="Check the address and the network, then try again.",
        )
    )


def _obstacles(report: CheckReport, connection: str) -> Iterator[tuple[str, str]]:
    """Stream -> why it cannot be read; an optional field that is missing stops no stream."""
    above = f"connections.{connection}.streams."
    for one in reversed(report.problems):
        if not one.place.startswith(above):
            continue
        stream, _, below = one.place.removeprefix(above).partition(".")
        if not below or one.is_error:
            # What a CRM's connector says of a missing right names the way to it.
            yield stream, one.message if "Add" in one.message else f"{one.message} {one.remedy}"


def _is_of_stream(problem: Problem, connection: str) -> bool:
    return problem.place.startswith(f"connections.{connection}.streams.")


def _write_obstacle(
    report: CheckReport, connection: str, streams: Sequence[StreamLook]
) -> str | None:
    for one in report.problems:
        if one.is_error and one.place == f"connections.{connection}.auth":
            return f"{one.message} {one.remedy}".strip()
    for name in ("accounts", "deals"):
        look = next((one for one in streams if one.name == name), None)
        if look is not None and look.obstacle is not None:
            return f"{name} cannot be read: {look.obstacle}"
    return None

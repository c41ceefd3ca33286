"""What became of marketing e-mails, by e-mail and day of sending.

HubSpot counts for the day on which an e-mail was sent whatever becomes of it later: an opening
next month raises a number of this month. The list of e-mails tells their counters of all time, so
those that moved since the last pull are known, and their days alone are read again.
https://developers.hubspot.com/docs/api-reference/marketing-marketing-emails-v3/guide
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import orjson

from connectors.base import ConnectionSettings, Cursor, Page, Stream
from connectors.errors import MalformedAnswer
from connectors.fieldmap import FieldMap, NativeField
from connectors.hubspot.client import HubSpotClient, Json
from connectors.hubspot.cursor import to_ms
from connectors.hubspot.derived import instant
from connectors.hubspot.mapping import Mapped, RecordMapper, map_of_marketing
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.paths import EMAIL_HISTOGRAM, EMAILS
from connectors.hubspot.walk import Circle

PAGE: Final = 100
RESTATED: Final = timedelta(days=365)
"""How far back the days of an e-mail are read again when its counters have moved."""

_SPAN: Final = timedelta(days=365)
"""Days that are asked for in one call."""
_AT_ONCE: Final = 50
"""E-mails a page of records: what a kill has to read again."""
_REMEMBERED: Final = 5000
"""E-mails whose counters a cursor carries: the newest."""
_COUNTERS: Final = "counters"
_ASKED: Final = ("id", "name", "campaign", "createdAt", "publishDate", "stats")


@dataclass(frozen=True, slots=True)
class EmailPull:
    """One pull of the statistics of all e-mails."""

    client: HubSpotClient
    settings: ConnectionSettings
    stream: Stream
    minimum: Minimum

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """The days of the e-mails whose counters moved; of those never read before, all days."""
        reading = _Reading(self, _counted(since), since if isinstance(since, datetime) else None)
        yield from reading.pages()

    def fieldmap(self) -> FieldMap:
        """Which of HubSpot's counters go where."""
        return map_of_marketing(self.settings, self.stream, _native_field)


@dataclass(slots=True)
class _Reading:
    """A pull under way."""

    pull: EmailPull
    before: Mapping[str, str]
    """E-mail id -> the sign of its counters when its days were read last."""
    earliest: datetime | None
    """The first day to read, where a person names one."""
    began: datetime | None = None
    now_known: dict[str, str] = field(default_factory=dict)

    def pages(self) -> Iterator[Page]:
        fieldmap = self.pull.fieldmap()
        mapper = RecordMapper(self.pull.client.connection, self.pull.stream.name, fieldmap)
        page = Page(records=[], resume_at=None, warnings=fieldmap.warnings)
        waiting = 0
        for email in self._emails():
            sign = _sign(email)
            if self._is_news(str(email["id"]), sign):
                page = self._with_days(page, mapper, email)
                waiting += 1
            self._remember(str(email["id"]), sign)
            if waiting >= _AT_ONCE:
                yield replace(page, resume_at=self._cursor())
                page, waiting = Page(records=[], resume_at=None), 0
        yield replace(page, resume_at=self._cursor(), complete_until=self.began)

    def _emails(self) -> Iterator[Json]:
        """Every e-mail; the archived ones were sent as well."""
        client = self.pull.client
        for archived in ("false", "true"):
            circle = Circle(client.connection, "marketing e-mails")
            after: str | None = None
            while True:
                answer = client.resource(
                    EMAILS, _list_query(archived, after), is_sound=circle.is_new
                )
                self.pull.minimum.add(f"emails {archived}", max(1, len(answer.results)), PAGE)
                self.began = self.began or answer.at
                yield from answer.results
                after = answer.after
                circle.enter(after)
                if after is None:
                    break

    def _is_news(self, email_id: str, sign: str) -> bool:
        if self.earliest is not None:
            return True
        return not sign or self.before.get(email_id) != sign

    def _remember(self, email_id: str, sign: str) -> None:
        self.now_known.pop(email_id, None)
        self.now_known[email_id] = sign

    def _with_days(self, page: Page, mapper: RecordMapper, email: Json) -> Page:
        mapped = Mapped()
        for day, counters in self._days(email):
            row = {"id": f"{email['id']}-{day.isoformat()}"}
            native = {**email, "email": email["id"], "date": day.isoformat(), _COUNTERS: counters}
            record = mapper.record(row, native, mapped)
            if record is not None:
                mapped.records.append(record)
        return replace(
            page,
            records=[*page.records, *mapped.records],
            rejected=[*page.rejected, *mapped.rejected],
            warnings=[*page.warnings, *mapped.warnings],
        )

    # ------------------------------------------------------------ the days of one e-mail

    def _days(self, email: Json) -> Iterator[tuple[date, Json]]:
        """The days on which an e-mail was sent, with what became of it."""
        end = self.began or datetime.now(UTC)
        zone = self.pull.client.zone()
        first = self._first_day(email, end).astimezone(zone).date()
        start = datetime.combine(first, time(), zone)
        while start <= end:
            until = min(datetime.combine((start + _SPAN).date(), time(), zone), end)
            for row in self._histogram(str(email["id"]), start, until):
                counters = (row.get("aggregations") or {}).get(_COUNTERS) or {}
                at = instant((row.get("interval") or {}).get("start"))
                if at is None:
                    raise MalformedAnswer(
                        self.pull.client.connection,
                        "HubSpot's e-mail statistics do not say which day they are of.",
                    )
                if any(counters.values()):
                    yield at.astimezone(zone).date(), counters
            if until >= end:
                return
            start = until

    def _first_day(self, email: Json, end: datetime) -> datetime:
        if self.earliest is not None:
            return self.earliest
        told = [instant(email.get(name)) for name in ("createdAt", "publishDate")]
        created = min((at for at in told if at is not None), default=end - RESTATED)
        if str(email["id"]) not in self.before:
            return created
        return max(created, end - RESTATED)

    def _histogram(self, email_id: str, start: datetime, end: datetime) -> Iterator[Json]:
        client = self.pull.client
        circle = Circle(client.connection, "e-mail statistics")
        after: str | None = None
        while True:
            query = [
                ("interval", "DAY"),
                ("emailIds", email_id),
                ("startTimestamp", _text(start)),
                ("endTimestamp", _text(end)),
                *([("after", after)] if after else []),
            ]
            answer = client.resource(EMAIL_HISTOGRAM, query, is_sound=circle.is_new)
            self.pull.minimum.add_whole()
            yield from answer.results
            after = answer.after
            circle.enter(after)
            if after is None:
                return

    def _cursor(self) -> Cursor:
        # What was not yet looked at in this pull keeps the sign of the last one.
        known = {**self.before, **self.now_known}
        newest = dict([*known.items()][-_REMEMBERED:])
        until = to_ms(self.began) if self.began else 0
        return Cursor(orjson.dumps({"v": 1, "until": until, _COUNTERS: newest}).decode())


def _list_query(archived: str, after: str | None) -> Sequence[tuple[str, str]]:
    return [
        ("limit", str(PAGE)),
        ("sort", "createdAt"),
        ("includeStats", "true"),
        ("archived", archived),
        # Without these each e-mail brings its whole text along.
        *(("includedProperties", name) for name in _ASKED),
        *([("after", after)] if after else []),
    ]


def _counted(since: Cursor | datetime | None) -> Mapping[str, str]:
    content = orjson.loads(since) if isinstance(since, str) else {}
    known: dict[str, str] = content.get(_COUNTERS, {})
    return known


def _sign(email: Json) -> str:
    """A short sign of an e-mail's counters; empty where HubSpot does not tell them."""
    counters = (email.get("stats") or {}).get(_COUNTERS)
    if not isinstance(counters, dict):
        return ""
    return f"{zlib.crc32(orjson.dumps(counters, option=orjson.OPT_SORT_KEYS)):08x}"


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _native_field(name: str) -> NativeField | None:
    if name.startswith(f"{_COUNTERS}."):
        return NativeField(name, "integer")
    return NativeField(name, _TYPES[name]) if name in _TYPES else None


_TYPES: Final[Mapping[str, str]] = {
    "email": "text",
    "name": "text",
    "campaign": "text",
    "date": "date",
}

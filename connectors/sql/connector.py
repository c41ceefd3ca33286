"""The SQL connector: one read-only query a stream, on any database SQLAlchemy knows.

With a cursor column an increment reads the rows above the highest value it has seen, less the
lookback; without one all rows are read each time, and rows that are gone are deletions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    String,
    Subquery,
    and_,
    cast,
    column,
    create_engine,
    exc,
    false,
    literal_column,
    make_url,
    or_,
    select,
    text,
)

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    IdPage,
    Page,
    Problem,
    PushOutcome,
    PushResult,
    Stream,
)
from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    MisconfiguredConnection,
    RequestRefused,
)
from connectors.fieldmap import FieldMap
from connectors.tabular import as_json_has_it, map_columns
from store.canonical import (
    RECORD_TYPES,
    CanonicalRecord,
    FieldUpdate,
    RecordRef,
    RejectedRecord,
)

PAGE_ROWS: Final = 2_000
LOOKBACK: Final = timedelta(minutes=15)
"""Rows that were stamped before and committed after the last pull."""

_SELECT: Final = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_READ_ONLY: Final[Mapping[str, str]] = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """How far an increment has come: the highest cursor value, and the key that had it."""

    value: datetime | Decimal | str
    key: str

    @classmethod
    def read(cls, cursor: Cursor) -> _Place:
        """From the text of a cursor."""
        found = json.loads(cursor)
        value: datetime | Decimal | str = found["value"]
        match found["type"]:
            case "instant":
                value = datetime.fromisoformat(str(value))
            case "number":
                value = Decimal(str(value))
        return cls(value, found["key"])

    def text(self) -> Cursor:
        """As a cursor."""
        match self.value:
            case datetime():
                kind, value = "instant", self.value.isoformat()
            case Decimal():
                kind, value = "number", str(self.value)
            case _:
                kind, value = "text", self.value
        return Cursor(json.dumps({"type": kind, "value": value, "key": self.key}))

    def back(self, span: timedelta) -> _Place:
        """Where the overlap begins; numbers rise without a clock and have none."""
        match self.value:
            case datetime():
                return _Place(self.value - span, "")
            case str():
                # Databases without a type for instants keep them as text that sorts.
                try:
                    earlier = datetime.fromisoformat(self.value) - span
                except ValueError:
                    return self
                mark = "T" if "T" in self.value else " "
                return _Place(earlier.isoformat(sep=mark), "")
            case _:
                return self


@dataclass(frozen=True, slots=True)
class _Query:
    """A configured query as something to select from."""

    rows: Subquery
    key: str
    cursor: str | None
    dialect: str

    def page(self, after: _Place | None, size: int) -> Select[Any]:
        """The next rows by cursor and key; all of them where there is no cursor."""
        if self.cursor is None:
            return select(self.rows)
        cursor, key = self.rows.c[self.cursor], self.as_text(self.key)
        page = select(self.rows).order_by(cursor, key).limit(size)
        if after is None:
            return page
        value = self._bound(after.value)
        return page.where(or_(cursor > value, and_(cursor == value, key > after.key)))

    def as_text(self, name: str) -> ColumnElement[str]:
        """A column as text: keys are compared as the store has them."""
        return cast(self.rows.c[name], String)

    def _bound(self, value: datetime | Decimal | str) -> Any:
        if self.dialect != "sqlite":
            return value
        if isinstance(value, datetime):
            return (
                value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if value.tzinfo else str(value)
            )
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
        return value


class SqlConnector:
    """One database; see ``connectors.base.Connector``."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self.calls = CallCounter()
        self.capabilities = Capabilities(
            push_batch=1,
            sees_deletions=False,
            stream_objects=dict.fromkeys(settings.streams, "query"),
            object_streams={},
        )
        for name in settings.streams:
            self._check_query(name)
        self._engine = _engine(settings)

    def org_id(self) -> str | None:
        """Databases have no identity that could be pinned."""
        return None

    def check(self) -> CheckReport:
        """Run every query for one row and look at its columns; never raises for what it sees."""
        problems: list[Problem] = []
        for name in self._settings.streams:
            place = f"streams.{name}.query"
            try:
                with self._reading() as conn:
                    found = self._map(name, self._asked(conn, name))
            except ConnectorError as error:
                problems.append(Problem(place=place, message=error.message, remedy=""))
            else:
                problems += [
                    Problem(place=place, message=words, remedy="", is_error=False)
                    for words in found.warnings
                ]
        return CheckReport(org_id=None, problems=problems)

    def streams(self) -> Sequence[Stream]:
        """What is configured, what others link to first."""
        order = list(RECORD_TYPES)
        names = sorted(self._settings.streams, key=order.index)
        return [Stream(name=name, object="query", yields=(name,)) for name in names]

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        """Read the rows of a query, in the order of its cursor column and key.

        Raises:
            ConnectorError: the database cannot be reached or refuses the query.
        """
        name = stream.name
        has_cursor = "cursor" in self._settings.streams[name].options
        begun = datetime.now(UTC)
        lookback = self._settings.tuning.lookback or LOOKBACK
        place: _Place | None = None
        if has_cursor and since is not None:
            place = (_Place(since, "") if isinstance(since, datetime) else _Place.read(since)).back(
                lookback
            )
        size = self._settings.tuning.page_size or PAGE_ROWS
        reached = place
        while True:
            with self._reading() as conn:
                query = self._asked(conn, name)
                fieldmap = self._map(name, query)
                rows = self._fetched(conn, query.page(place, size))
            records, rejected = self._mapped(name, fieldmap, rows)
            place = self._place_after(name, rows) or place
            reached = place or reached
            is_last = len(rows) < size
            yield Page(
                records=records,
                rejected=rejected,
                # Without a cursor column the next pull sees all rows, and which are gone.
                resume_at=reached.text() if has_cursor and reached is not None else None,
                complete_until=begun if is_last else None,
                warnings=fieldmap.warnings if is_last else (),
            )
            if is_last:
                return

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        """All keys of the query; None where every pull reads all rows anyway."""
        if "cursor" not in self._settings.streams[stream.name].options:
            return None
        return self._ids(stream.name)

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        """Rows by key.

        Raises:
            ConnectorError: the database cannot be reached or refuses the query.
        """
        with self._reading() as conn:
            query = self._asked(conn, stream.name)
            fieldmap = self._map(stream.name, query)
            wanted = query.as_text(query.key).in_([ref.native_id for ref in refs])
            rows = self._fetched(conn, select(query.rows).where(wanted))
        records, rejected = self._mapped(stream.name, fieldmap, rows)
        return Page(records=records, rejected=rejected, resume_at=None)

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Databases are a source; the metrics table is what is written into them (sinks)."""
        return [
            PushResult(
                update=update,
                outcome=PushOutcome.FAILED,
                code="read_only",
                message="A query is a source, not a target.",
            )
            for update in updates
        ]

    def close(self) -> None:
        """Give connections back."""
        self._engine.dispose()

    # ------------------------------------------------------------ queries

    def _check_query(self, stream: str) -> None:
        query = self._query(stream)
        if not _SELECT.match(query) or ";" in query:
            raise MisconfiguredConnection(
                self._settings.name,
                f"streams.{stream}.query must be one SELECT (or WITH ... SELECT) without a"
                " semicolon.",
            )

    def _query(self, stream: str) -> str:
        return self._settings.streams[stream].options["query"].strip()

    def _asked(self, conn: Connection, stream: str) -> _Query:
        """The configured query, with the columns it turns out to have."""
        options = self._settings.streams[stream].options
        # A colon would begin a parameter.
        written = text(self._query(stream).replace(":", "\\:"))
        probe: Select[Any] = select(literal_column("*")).select_from(written.columns().alias("q"))
        with self._translated():
            names = tuple(conn.execute(probe.where(false())).keys())
        for name in (options["key"], options.get("cursor")):
            if name is not None and name not in names:
                raise MisconfiguredConnection(
                    self._settings.name,
                    f'the query of streams.{stream} has no column "{name}" (it has:'
                    f" {', '.join(names)}).",
                )
        rows = written.columns(*(column(name) for name in names)).alias("q")
        return _Query(rows, options["key"], options.get("cursor"), conn.dialect.name)

    def _ids(self, stream: str) -> Iterator[IdPage]:
        with self._reading() as conn:
            query = self._asked(conn, stream)
            found = self._fetched(conn, select(query.as_text(query.key).label("id")))
        ids = [str(row["id"]) for row in found]
        for start in range(0, max(len(ids), 1), PAGE_ROWS):
            yield IdPage(
                refs=[
                    RecordRef(self._settings.name, stream, one)
                    for one in ids[start : start + PAGE_ROWS]
                ],
                total=len(ids),
            )

    def _map(self, stream: str, query: _Query) -> FieldMap:
        return map_columns(self._settings, stream, place="the query", columns=query.rows.c.keys())

    def _mapped(
        self, stream: str, fieldmap: FieldMap, rows: Sequence[Mapping[str, object]]
    ) -> tuple[list[CanonicalRecord], list[RejectedRecord]]:
        key = self._settings.streams[stream].options["key"]
        records: list[CanonicalRecord] = []
        rejected: list[RejectedRecord] = []
        for row in rows:
            ref = RecordRef(self._settings.name, stream, str(row[key]))
            found = fieldmap.record(ref, as_json_has_it(row))
            if isinstance(found, RejectedRecord):
                rejected.append(found)
            else:
                records.append(found)
        return records, rejected

    def _place_after(self, stream: str, rows: Sequence[Mapping[str, object]]) -> _Place | None:
        options = self._settings.streams[stream].options
        if not rows or "cursor" not in options:
            return None
        last = rows[-1]
        value = last[options["cursor"]]
        if value is None:
            raise MisconfiguredConnection(
                self._settings.name,
                f"streams.{stream}.cursor: the column {options['cursor']} is empty in some rows;"
                " use one that every row has, or leave rows without it out of the query.",
            )
        if isinstance(value, datetime):
            return _Place(value, str(last[options["key"]]))
        if isinstance(value, (int, float, Decimal)):
            return _Place(Decimal(str(value)), str(last[options["key"]]))
        return _Place(str(value), str(last[options["key"]]))

    # ------------------------------------------------------------ the database

    def _fetched(self, conn: Connection, statement: Select[Any]) -> Sequence[Mapping[str, object]]:
        self.calls.made += 1
        self.calls.minimum += 1
        with self._translated():
            return [dict(row) for row in conn.execute(statement).mappings()]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction that cannot write and is rolled back."""
        with self._translated(), self._engine.connect() as conn:
            forbid = _READ_ONLY.get(self._engine.dialect.name)
            if forbid is not None:
                conn.exec_driver_sql(forbid)
            try:
                yield conn
            finally:
                conn.rollback()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            if isinstance(error, exc.DBAPIError) and "syntax" in str(error.orig).lower():
                raise self._refused(error) from None
            raise CrmUnavailable(
                self._settings.name, f"the database does not answer: {_words(error)}"
            ) from None
        except exc.DBAPIError as error:
            raise self._refused(error) from None

    def _refused(self, error: exc.DBAPIError) -> RequestRefused:
        return RequestRefused(
            self._settings.name, f"the database refuses the query: {_words(error)}"
        )


def _engine(settings: ConnectionSettings) -> Engine:
    timeout = int(settings.tuning.connect_timeout.total_seconds())
    try:
        address = make_url(settings.auth["url"])
        arguments = {"connect_timeout": timeout} if "postgres" in address.drivername else {}
        engine = create_engine(address, pool_pre_ping=True, connect_args=arguments)
    except (exc.ArgumentError, ValueError):
        # The URL may hold a password: it is not repeated.
        raise MisconfiguredConnection(
            settings.name, "auth.url is no SQLAlchemy URL: write DIALECT+DRIVER://USER@HOST/NAME."
        ) from None
    except ImportError as error:
        raise MisconfiguredConnection(
            settings.name,
            f"the driver of auth.url is not installed ({error.name}): install it beside kpisync.",
        ) from None
    return engine


def _words(error: Exception) -> str:
    """The driver's first line, which names neither user nor password."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0][:200]


def connect(settings: ConnectionSettings) -> SqlConnector:
    """The factory behind the entry point ``sql``."""
    return SqlConnector(settings)

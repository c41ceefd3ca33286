"""The SQL connector: one read-only query a stream, on any database SQLAlchemy knows.

With a cursor column an increment reads the rows above the highest value it has seen, less the
lookback; without one all rows are read each time, and rows that are gone are deletions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
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
    event,
    exc,
    false,
    literal,
    literal_column,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.types import NullType

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
    Tuning,
)
from connectors.errors import (
    AuthenticationFailed,
    ConnectorError,
    CrmUnavailable,
    MisconfiguredConnection,
    RequestRefused,
)
from connectors.fieldmap import FieldMap
from connectors.sql.places import Place, Value, value_of
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

OVERLAP_ROWS: Final = 1_000
"""The same of a cursor column without a clock, until it is known when which value was reached."""

_SELECT: Final = re.compile(r"\s*(select|with)\b", re.IGNORECASE)
_AHEAD: Final = timedelta(days=1)
"""No zone and no clock is so far ahead."""

_WRONG_STATEMENT: Final = ("syntax", "no such table", "no such column", "no such function")
_WRONG_LOGIN: Final = (
    "authentication failed",
    "access denied",
    "no password supplied",
    "no pg_hba.conf entry",
    "login failed",
    "unknown database",
    '" does not exist',
)
_NEXT_LINE: Final = "\n"
"""Behind a query: a comment at its end must not swallow what it is put into."""
_READ_ONLY: Final[Mapping[str, str]] = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET TRANSACTION READ ONLY",
    "mariadb": "SET TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


@dataclass(frozen=True, slots=True)
class _Query:
    """A configured query as something to select from."""

    rows: Subquery
    key: str
    cursor: str | None
    dialect: str

    def page(self, after: Place | None, size: int) -> Select[Any]:
        """The next rows by cursor and key, of those that have a cursor value."""
        cursor, key = self._cursor(), self.as_text(self.key)
        page = select(self.rows).where(cursor.is_not(None)).limit(size)
        page = page.order_by(cursor, key.is_not(None), key)
        if after is None:
            return page
        value = self._bound(after.value)
        return page.where(or_(cursor > value, and_(cursor == value, key > after.key)))

    def without_cursor(self, after: str | None, size: int) -> Select[Any]:
        """The next rows by key, of those that have no cursor value."""
        key = self.as_text(self.key)
        page = select(self.rows).where(self._cursor().is_(None)).limit(size)
        # One without a key goes with the first of them, and into the dead letters.
        page = page.order_by(key.is_not(None), key)
        return page if after is None else page.where(key > after)

    def below(self, value: Value, rows: int) -> Select[Any]:
        """The cursor value so many rows below another one."""
        cursor = self._cursor()
        upto = select(cursor).where(cursor <= self._bound(value))
        return upto.order_by(cursor.desc()).limit(1).offset(rows)

    def _cursor(self) -> ColumnElement[Any]:
        if self.cursor is None:
            raise ValueError("the query has no cursor column")
        return self.rows.c[self.cursor]

    def as_text(self, name: str) -> ColumnElement[str]:
        """A column as text: keys are compared as the store has them."""
        return cast(self.rows.c[name], String)

    def _bound(self, value: Value) -> Any:
        if self.dialect == "postgresql" and isinstance(value, str):
            # Not as a text: a day, or an instant without end, is compared with its like.
            return literal(value, NullType())
        if self.dialect != "sqlite":
            return value
        if isinstance(value, datetime):
            return (
                value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if value.tzinfo else str(value)
            )
        if isinstance(value, Decimal):
            return int(value) if value == value.to_integral_value() else float(value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Portion:
    """Some rows of a query, mapped."""

    records: Sequence[CanonicalRecord]
    rejected: Sequence[RejectedRecord]
    size: int
    """Rows that came."""
    is_end: bool
    """No more of this kind follow."""
    last: Place | None
    """Of its last row."""
    last_key: str | None
    warnings: Sequence[str]

    def page(self, state: Place | None) -> Page:
        """As a page after which a pull can go on from a place."""
        resume_at = None if state is None else state.text()
        return Page(records=self.records, rejected=self.rejected, resume_at=resume_at)


def _known(since: Cursor | datetime | None) -> Place | None:
    match since:
        case None:
            return None
        case datetime():
            return Place(value=since)
    return Place.read(since)


def _place_at(query: _Query, row: Mapping[str, object]) -> Place | None:
    found = None if query.cursor is None else row[query.cursor]
    return None if found is None else Place(value=value_of(found), key=_key_text(row[query.key]))


def _key_text(found: object) -> str:
    return "" if found is None else str(found)


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
        if "cursor" in self._settings.streams[stream.name].options:
            return self._pull_by_cursor(stream.name, since)
        return self._pull_whole(stream.name)

    def _pull_whole(self, name: str) -> Iterator[Page]:
        """All rows, in whatever order; what is not among them is gone."""
        begun = datetime.now(UTC)
        taken: set[bytes] = set()
        with self._reading() as conn:
            query = self._asked(conn, name)
            fieldmap = self._map(name, query)
            portions = self._portions(conn, select(query.rows))
            rows = next(portions, ())
            while True:
                following = next(portions, None)
                records, rejected = self._mapped(name, fieldmap, rows, taken)
                yield Page(
                    records=records,
                    rejected=rejected,
                    # The next pull sees all rows, and which are gone.
                    resume_at=None,
                    complete_until=begun if following is None else None,
                    doubt="" if rows else "the query returned no row at all",
                    warnings=fieldmap.warnings if following is None else (),
                )
                if following is None:
                    return
                rows = following

    def _pull_by_cursor(self, name: str, since: Cursor | datetime | None) -> Iterator[Page]:
        """Rows from a place on; then those without a cursor value, which may change any time."""
        now = datetime.now(UTC)
        lookback = self._settings.tuning.lookback or LOOKBACK
        state = _known(since)
        begun = state.begun if state is not None and state.begun is not None else now
        held: _Portion | None = None
        if state is None or state.unplaced is None:
            # What was begun goes on exactly there; what had come to its end is overlapped.
            at = state if state is None or state.begun else self._overlap(name, state, lookback)
            while True:
                held = self._portion(name, at)
                if held.last is not None:
                    at = held.last
                    state = replace(state or at, value=at.value, key=at.key, begun=begun)
                if held.is_end:
                    break
                yield held.page(state)
        after = None if state is None else state.unplaced
        unplaced_rows = 0
        while True:
            portion = self._unplaced_portion(name, after)
            unplaced_rows += portion.size
            if held is not None and portion.size:
                yield held.page(state)
            elif held is not None:
                portion = held
            held = None
            if portion.is_end:
                break
            after = portion.last_key
            state = None if state is None else replace(state, begun=begun, unplaced=after)
            yield portion.page(state)
        ended = state and state.ended(begun=begun, now=datetime.now(UTC), lookback=lookback)
        yield replace(
            portion.page(ended),
            complete_until=begun,
            warnings=[
                *portion.warnings,
                *self._unplaced_words(name, unplaced_rows),
                *self._ahead_words(name, state, begun),
            ],
        )

    def _overlap(self, name: str, state: Place, lookback: timedelta) -> Place | None:
        """Where to begin so that rows which were committed late are seen; None: at the first."""
        begin = state.back(lookback)
        if begin is not None:
            return begin
        # No clock, and nothing is known of earlier pulls: some rows that lie below.
        with self._reading() as conn:
            query = self._asked(conn, name)
            below = self._fetched(conn, query.below(state.value, OVERLAP_ROWS))
        return Place(value=value_of(below[0][query.cursor or ""])) if below else None

    def _unplaced_words(self, name: str, rows: int) -> Sequence[str]:
        if not rows:
            return ()
        cursor = self._settings.streams[name].options["cursor"]
        return [
            (
                f"{rows:,} row(s) of the query of streams.{name} have no {cursor}: they are read"
                " again at every pull. Where they are many, use a column that every row has, such"
                " as coalesce(changed_at, created_at) AS changed_at."
            )
        ]

    def _ahead_words(self, name: str, state: Place | None, begun: datetime) -> Sequence[str]:
        if state is None or not state.is_ahead_of(begun + _AHEAD):
            return ()
        cursor = self._settings.streams[name].options["cursor"]
        return [
            (
                f"the highest {cursor} of the query of streams.{name} lies in the future"
                f" ({state.value}): rows of times to come are read again at every pull. Correct"
                " them."
            )
        ]

    def _portion(self, name: str, after: Place | None) -> _Portion:
        with self._reading() as conn:
            query = self._asked(conn, name)
            rows = self._fetched(conn, query.page(after, self._page_rows))
        return self._portion_of(name, query, rows)

    def _unplaced_portion(self, name: str, after: str | None) -> _Portion:
        with self._reading() as conn:
            query = self._asked(conn, name)
            rows = self._fetched(conn, query.without_cursor(after, self._page_rows))
        return self._portion_of(name, query, rows)

    def _portion_of(
        self, name: str, query: _Query, rows: Sequence[Mapping[str, object]]
    ) -> _Portion:
        fieldmap = self._map(name, query)
        records, rejected = self._mapped(name, fieldmap, rows, set())
        last = rows[-1] if rows else None
        return _Portion(
            records=records,
            rejected=rejected,
            size=len(rows),
            is_end=len(rows) < self._page_rows,
            last=_place_at(query, last) if last is not None else None,
            last_key=None if last is None else _key_text(last[query.key]),
            warnings=fieldmap.warnings,
        )

    @property
    def _page_rows(self) -> int:
        return self._settings.tuning.page_size or PAGE_ROWS

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
        records, rejected = self._mapped(stream.name, fieldmap, rows, set())
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
        written = text(self._query(stream).replace(":", "\\:") + _NEXT_LINE)
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
        # A row without a key is no record, and waits in the dead letters.
        ids = [str(row["id"]).strip() for row in found if row["id"] is not None]
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
        self,
        stream: str,
        fieldmap: FieldMap,
        rows: Sequence[Mapping[str, object]],
        taken: set[bytes],
    ) -> tuple[list[CanonicalRecord], list[RejectedRecord]]:
        """Rows as records; one whose key is in `taken`, or that has none, is set aside."""
        column = self._settings.streams[stream].options["key"]
        records: list[CanonicalRecord] = []
        rejected: list[RejectedRecord] = []
        for row in rows:
            # Columns of a fixed width are filled up with blanks; links to them are not.
            key = _key_text(row[column]).strip()
            mark = hashlib.blake2b(key.encode(), digest_size=16).digest()
            if not key or mark in taken:
                rejected.append(self._without_key(stream, column, key))
                continue
            taken.add(mark)
            ref = RecordRef(self._settings.name, stream, key)
            found = fieldmap.record(ref, as_json_has_it(row))
            if isinstance(found, RejectedRecord):
                rejected.append(found)
            else:
                records.append(found)
        return records, rejected

    def _without_key(self, stream: str, column: str, key: str) -> RejectedRecord:
        what = f"has the {column} {key} of another row" if key else f"has no {column}"
        ref = RecordRef(self._settings.name, stream, f"{key or 'without key'} (again)")
        reason = (
            f"a row of the query of streams.{stream} {what}: each record needs a key of its own."
            " Correct the query, or name another column in `key`."
        )
        return RejectedRecord(ref, None, reason, "no_key_of_its_own", "")

    # ------------------------------------------------------------ the database

    def _fetched(self, conn: Connection, statement: Select[Any]) -> Sequence[Mapping[str, object]]:
        self.calls.made += 1
        self.calls.minimum += 1
        with self._translated():
            return [dict(row) for row in conn.execute(statement).mappings()]

    def _portions(
        self, conn: Connection, statement: Select[Any]
    ) -> Iterator[Sequence[Mapping[str, object]]]:
        """All rows, a page at a time, never all of them at once."""
        self.calls.made += 1
        self.calls.minimum += 1
        options = {"stream_results": True, "yield_per": self._page_rows}
        with self._translated():
            result = conn.execute(statement, execution_options=options).mappings()
            for rows in result.partitions():
                yield [dict(row) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A transaction that cannot write and is rolled back."""
        self._look_for_file()
        with self._translated(), self._engine.connect() as conn:
            forbid = _READ_ONLY.get(self._engine.dialect.name)
            if forbid is not None:
                conn.exec_driver_sql(forbid)
            if conn.dialect.name == "postgresql":
                conn.exec_driver_sql(f"SET LOCAL statement_timeout = {self._total_seconds * 1000}")
            try:
                yield conn
            finally:
                conn.rollback()

    def _look_for_file(self) -> None:
        """SQLite would create a database where there is none."""
        address = self._engine.url
        path = address.database if address.get_backend_name() == "sqlite" else None
        if path and not path.startswith((":memory:", "file:")) and not Path(path).exists():
            raise CrmUnavailable(
                self._settings.name,
                f"there is no database file {path}: put it there, or correct auth.url.",
            )

    @property
    def _total_seconds(self) -> int:
        return max(1, round(self._settings.tuning.total_timeout.total_seconds()))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            raise self._unanswered(error) from None
        except exc.DBAPIError as error:
            raise self._refused(error) from None

    def _unanswered(self, error: exc.DBAPIError | exc.TimeoutError) -> ConnectorError:
        """By its words: drivers call operational whatever is not the statement's own fault."""
        words = _words(error)
        said = words.lower()
        if any(sign in said for sign in _WRONG_STATEMENT):
            return RequestRefused(self._settings.name, f"the database refuses the query: {words}")
        if any(sign in said for sign in _WRONG_LOGIN):
            return AuthenticationFailed(
                self._settings.name,
                f"the database refuses the login: {words}. Correct auth.url, or its user's rights.",
            )
        if "statement timeout" in said:
            return CrmUnavailable(
                self._settings.name,
                f"the query did not end within {self._total_seconds:,} s: make it faster (an index"
                " on the cursor column), or raise advanced.total_timeout.",
            )
        return CrmUnavailable(self._settings.name, f"the database does not answer: {words}")

    def _refused(self, error: exc.DBAPIError) -> RequestRefused:
        return RequestRefused(
            self._settings.name, f"the database refuses the query: {_words(error)}"
        )


def _deadlines(driver: str, tuning: Tuning) -> Mapping[str, object]:
    """What a driver takes so that no call waits for ever; nothing for those nobody tried."""
    connect = max(1, round(tuning.connect_timeout.total_seconds()))
    silent = max(1, round(tuning.read_timeout.total_seconds()))
    total = max(1, round(tuning.total_timeout.total_seconds()))
    match driver:
        case "psycopg" | "psycopg2":
            # How long a query may take the server is told; a server that is gone is noticed here.
            return {
                "connect_timeout": connect,
                "keepalives_idle": max(1, silent // 2),
                "keepalives_interval": max(1, silent // 6),
                "keepalives_count": 3,
                "tcp_user_timeout": silent * 1000,
            }
        case "pymysql" | "mysqldb":
            return {"connect_timeout": connect, "read_timeout": total, "write_timeout": silent}
        case "pymssql":
            return {"login_timeout": connect, "timeout": total}
    return {}


def _engine(settings: ConnectionSettings) -> Engine:
    try:
        address = make_url(settings.auth["url"])
        arguments = dict(_deadlines(address.get_driver_name(), settings.tuning))
        engine = create_engine(address, pool_pre_ping=True, connect_args=arguments)
        if address.get_driver_name() == "psycopg":
            event.listen(engine, "connect", _bear_any_time)
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


def _bear_any_time(connection: Any, _record: object) -> None:
    """Let a day beyond the calendar of Python fail its record, not its whole query."""
    from psycopg import DataError  # noqa: PLC0415 - only where this driver is used
    from psycopg.types import datetime as times  # noqa: PLC0415

    def bearing(loader: type[Any]) -> type[Any]:
        def load(self: Any, data: bytes) -> object:
            try:
                return loader.load(self, data)
            except DataError:
                return bytes(data).decode()

        return type(loader.__name__, (loader,), {"load": load})

    for name, loader in (
        ("date", times.DateLoader),
        ("timestamp", times.TimestampLoader),
        ("timestamptz", times.TimestamptzLoader),
    ):
        connection.adapters.register_loader(name, bearing(loader))


def _words(error: Exception) -> str:
    """The driver's first line, which names no password."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return (str(cause).strip().splitlines() or [type(error).__name__])[0][:200]


def connect(settings: ConnectionSettings) -> SqlConnector:
    """The factory behind the entry point ``sql``."""
    return SqlConnector(settings)

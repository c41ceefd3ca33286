"""The files connector: CSV, JSON-lines and Parquet files as canonical records.

A snapshot is read whole whenever one of its files has changed; rows that are stored as they are
change nothing, and rows that are gone are removed with the worker's guard against a file that was
cut short. Files that are as they were are not opened.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    DiscoveredField,
    DiscoveredObject,
    Page,
    Problem,
    PushOutcome,
    PushResult,
    Stream,
    StreamSettings,
)
from connectors.errors import MisconfiguredConnection, MustStartOver, StreamPaused
from connectors.fieldmap import FieldMap
from connectors.files.reading import (
    KINDS,
    BadLine,
    Dialect,
    GoodLine,
    Row,
    UnreadableFile,
    columns_of,
    lines_of,
)
from connectors.files.unchanged import Look, Read, look_at
from connectors.tabular import as_json_has_it, map_columns
from store.canonical import (
    RECORD_TYPES,
    CanonicalRecord,
    FieldUpdate,
    RecordRef,
    RejectedRecord,
)

PAGE_ROWS: Final = 2_000
_SAMPLED: Final = 200


class FilesConnector:
    """One folder; see ``connectors.base.Connector``."""

    def __init__(
        self, settings: ConnectionSettings, *, clock: Callable[[], datetime] | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock or _now
        self._folder = Path(settings.options.get("folder", "."))
        self.calls = CallCounter()
        self.capabilities = Capabilities(
            push_batch=1,
            sees_deletions=True,
            stream_objects={name: self._pattern(name) for name in settings.streams},
            object_streams={},
        )

    def org_id(self) -> str | None:
        """A folder belongs to nobody."""
        return None

    def check(self) -> CheckReport:
        """Look at every configured file and its columns; never raises for what it sees."""
        problems: list[Problem] = []
        for name in self._settings.streams:
            place = f"streams.{name}"
            try:
                found = self._table(name).fieldmap
            except (StreamPaused, MisconfiguredConnection) as error:
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
        return [Stream(name=name, object=self._pattern(name), yields=(name,)) for name in names]

    def pull(
        self,
        stream: Stream,
        since: Cursor | datetime | None,
    ) -> Iterator[Page]:
        """Read every row of a stream's files, or nothing where they are as they were.

        Raises:
            MustStartOver: files of a snapshot have changed: only all of them show what is gone.
            StreamPaused: there is no file, one cannot be read, or a needed column is missing.
        """
        now = self._clock()
        is_snapshot = self._settings.streams[stream.name].options.get("snapshot") != "no"
        before = self._look(stream.name, now)
        if isinstance(since, str):
            read = Read.of(since)
            if before.is_proof and before.digest == read.digest:
                yield _nothing_new(read, now, is_snapshot=is_snapshot)
                return
            if is_snapshot:
                raise MustStartOver(self._settings.name, f"files of {stream.name} have changed")
        table = self._table(stream.name)
        fieldmap = table.fieldmap
        records: Sequence[CanonicalRecord] = ()
        rejected: Sequence[RejectedRecord] = ()
        for portion in self._portions(table):
            if records or rejected:
                yield Page(records=records, rejected=rejected, resume_at=None)
            records, rejected = portion
        after = self._look(stream.name, now)
        is_sure = after.is_proof and after == before
        is_steady = after.digest == before.digest
        warnings = (
            fieldmap.warnings if is_steady else (*fieldmap.warnings, _CHANGED.format(stream.name))
        )
        settings = self._settings.streams[stream.name]
        unreadable = fieldmap.unreadable & fieldmap_names(settings)
        doubt = table.doubt()
        read = Read(after.digest if is_sure else "", tuple(fieldmap.warnings), unreadable, doubt)
        yield Page(
            records=records,
            rejected=rejected,
            resume_at=read.cursor(),
            # Files that only add rows may have been moved away: nothing is gone for that. And of
            # a file that somebody was writing, who knows which half this was.
            brought_all=is_snapshot and is_steady,
            doubt=doubt,
            complete_until=now,
            warnings=warnings,
            unreadable=unreadable,
        )

    def _look(self, stream: str, now: datetime) -> Look:
        try:
            return look_at(self._folder, self._files(stream), now)
        except OSError as error:
            raise StreamPaused(
                self._settings.name,
                f"{error.filename} cannot be read: {error.strerror}. What was read before stays.",
            ) from None

    def _portions(
        self, table: _Table
    ) -> Iterator[tuple[list[CanonicalRecord], list[RejectedRecord]]]:
        found = self._found(table)
        while portion := list(islice(found, self._settings.tuning.page_size or PAGE_ROWS)):
            rejected = [one for one in portion if isinstance(one, RejectedRecord)]
            yield [one for one in portion if not isinstance(one, RejectedRecord)], rejected

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        """Files are never written."""
        return [
            PushResult(
                update=update,
                outcome=PushOutcome.FAILED,
                code="read_only",
                message="Files are a source, not a target.",
            )
            for update in updates
        ]

    def objects(self) -> Sequence[DiscoveredObject]:
        """The readable files of the folder."""
        return [
            DiscoveredObject(name=path.name, label=path.name, stream=self._stream_of(path))
            for path in sorted(self._folder.glob("*"))
            if path.suffix.lower() in KINDS
        ]

    def discover(self, object_name: str) -> DiscoveredObject:
        """One file with its columns and how many of its first rows fill them.

        Raises:
            MisconfiguredConnection: there is no such file, or it cannot be read.
        """
        path = self._folder / Path(object_name).name
        stream = self._stream_of(path)
        settings = self._settings.streams.get(stream or "", StreamSettings())
        filled: Counter[str] = Counter()
        columns: dict[str, None] = {}
        sampled = 0
        try:
            for line in lines_of(path, _dialect(settings)):
                if isinstance(line, GoodLine):
                    sampled += 1
                    columns.update(dict.fromkeys(line.row))
                    filled.update(
                        name for name, value in line.row.items() if value not in (None, "")
                    )
                if sampled >= _SAMPLED:
                    break
        except UnreadableFile as error:
            raise MisconfiguredConnection(self._settings.name, str(error)) from None
        return DiscoveredObject(
            name=path.name,
            label=path.name,
            stream=stream,
            sampled=sampled,
            fields=[
                DiscoveredField(
                    name=name, label=name, type="text", is_custom=True, filled=filled[name]
                )
                for name in columns
            ],
        )

    def close(self) -> None:
        """Nothing is kept open."""

    # ------------------------------------------------------------ files

    def _pattern(self, stream: str) -> str:
        return self._settings.streams[stream].object or f"{stream}.*"

    def _files(self, stream: str) -> Sequence[Path]:
        """The files of a stream by name.

        Raises:
            StreamPaused: there is none: nothing is read, and above all nothing removed.
        """
        home = self._folder.resolve()
        pattern = self._pattern(stream)
        try:
            found = sorted(
                path
                for path in self._folder.glob(pattern)
                if path.suffix.lower() in KINDS
                and path.is_file()
                and path.resolve().is_relative_to(home)
            )
        except (ValueError, NotImplementedError):
            raise MisconfiguredConnection(
                self._settings.name,
                f'streams.{stream}.object: "{pattern}" is no pattern within the folder,'
                " such as costs-*.csv.",
            ) from None
        if not found:
            raise StreamPaused(
                self._settings.name,
                f"no file in {self._folder} fits {pattern} ({', '.join(sorted(KINDS))}): put it"
                f" there, or correct streams.{stream}.object. What was read before stays.",
            )
        return found

    def _stream_of(self, path: Path) -> str | None:
        for name in self._settings.streams:
            if path.match(self._pattern(name)):
                return name
        return path.stem if path.stem in RECORD_TYPES else None

    # ------------------------------------------------------------ rows

    def _table(self, stream: str) -> _Table:
        settings = self._settings.streams[stream]
        files = self._files(stream)
        names: dict[str, str] = {}
        spelling: dict[str, str] = {}
        for path in files:
            try:
                for name in columns_of(path, _dialect(settings)):
                    spelling[name] = names.setdefault(name.casefold(), name)
            except UnreadableFile as error:
                raise StreamPaused(
                    self._settings.name, f"{error} What was read before stays."
                ) from None
        pattern = self._pattern(stream)
        if not names:
            raise StreamPaused(
                self._settings.name, f"{pattern} holds no row. What was read before stays."
            )
        fieldmap = map_columns(self._settings, stream, place=pattern, columns=names.values())
        return _Table(
            stream=stream,
            files=files,
            spelling=spelling,
            fieldmap=fieldmap,
            pointed=fieldmap.numbers() if settings.options.get("decimal") == "," else frozenset(),
            keys=_Keys(self._key_columns(stream, names)),
        )

    def _key_columns(self, stream: str, names: Mapping[str, str]) -> Sequence[str]:
        """The columns that tell rows apart, as the files spell them.

        Args:
            stream: of the connection.
            names: of all columns, by their casefolded spelling.

        Raises:
            StreamPaused: there is no such column.
        """
        written = self._settings.streams[stream].options.get("key")
        if written is None:
            return [names["id"]] if "id" in names else []
        wanted: Sequence[str] = json.loads(written)
        missing = [name for name in wanted if name.casefold() not in names]
        if missing:
            raise StreamPaused(
                self._settings.name,
                f'streams.{stream}.key: {self._pattern(stream)} has no column "{missing[0]}" (it'
                f" has: {', '.join(names.values())}). What was read before stays.",
            )
        return [names[name.casefold()] for name in wanted]

    def _found(self, table: _Table) -> Iterator[CanonicalRecord | RejectedRecord]:
        dialect = _dialect(self._settings.streams[table.stream])
        for path in table.files:
            try:
                for line in lines_of(path, dialect):
                    yield self._mapped(table, path, line)
            except UnreadableFile as error:
                raise StreamPaused(self._settings.name, str(error)) from None

    def _mapped(
        self, table: _Table, path: Path, line: GoodLine | BadLine
    ) -> CanonicalRecord | RejectedRecord:
        place = RecordRef(self._settings.name, table.stream, f"{path.name}:{line.line}")
        if isinstance(line, BadLine):
            table.unread += 1
            reason = f"line {line.line:,} of {path.name} {line.reason}. Correct the file."
            return RejectedRecord(place, None, reason, line.code, line.raw[:_LONGEST_RAW])
        table.rows += 1
        row = table.plain(line.row)
        key = table.keys.of(row)
        if key is None:
            reason = (
                f"line {line.line:,} of {path.name} has the key of a line before it (or none):"
                " each record needs one of its own. Correct the file, or name other columns in"
                " `key`."
            )
            return RejectedRecord(place, None, reason, "no_key_of_its_own", "")
        found = table.fieldmap.record(RecordRef(self._settings.name, table.stream, key), row)
        if isinstance(found, RejectedRecord):
            return replace(found, reason=f"line {line.line:,} of {path.name}: {found.reason}")
        return found


_LONGEST_RAW: Final = 200


_CHANGED: Final = (
    "a file of {} was changed while it was read: what is missing is removed when it holds still"
)


class _Keys:
    """Tells rows apart, each once in a pull."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._seen: set[bytes] = set()
        self._twins: Counter[str] = Counter()

    def of(self, row: Row) -> str | None:
        """A row's key; None where it is empty or another row has it."""
        if not self._columns:
            return self._of_content(row)
        parts = ["" if (cell := row.get(name)) is None else str(cell) for name in self._columns]
        key = "|".join(parts)
        mark = hashlib.blake2b(key.encode(), digest_size=16).digest()
        if not any(parts) or mark in self._seen:
            return None
        self._seen.add(mark)
        return key

    def _of_content(self, row: Row) -> str:
        """All cells together; equal rows are told apart by their number."""
        text = json.dumps(dict(row), sort_keys=True, default=str)
        key = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        self._twins[key] += 1
        return key if self._twins[key] == 1 else f"{key}-{self._twins[key]}"


@dataclass(slots=True, kw_only=True)
class _Table:
    """The files of one stream as one table."""

    stream: str
    files: Sequence[Path]
    spelling: Mapping[str, str]
    """Column as a file writes it -> as the first of the files does."""
    fieldmap: FieldMap
    pointed: frozenset[str]
    """Columns whose numbers have a decimal comma."""
    keys: _Keys
    rows: int = 0
    """Lines so far that could be read."""
    unread: int = 0
    """Lines so far that could not, not even whose they are."""

    def doubt(self) -> str:
        """Why rows that were stored before may be there though none of these is theirs."""
        if self.unread:
            return f"{self.unread:,} line(s) of the files could not be read (see the dead letters)"
        return "" if self.rows else "the files hold no row at all"

    def plain(self, row: Row) -> Mapping[str, object]:
        """Cells as a CRM's JSON would have them: empty is none, numbers have a point."""
        told: dict[str, object] = {}
        for name, value in row.items():
            column = self.spelling.get(name, name)
            if column in self.pointed and isinstance(value, str):
                value = _pointed(value.strip())  # noqa: PLW2901 - the same cell
            told.setdefault(column, value)
        return as_json_has_it(told)


def _now() -> datetime:
    return datetime.now(UTC)


def _nothing_new(read: Read, now: datetime, *, is_snapshot: bool) -> Page:
    return Page(
        records=(),
        resume_at=read.cursor(),
        complete_until=now,
        # A person who was asked whether rows may vanish is asked again until they answer.
        brought_all=is_snapshot,
        doubt=read.doubt,
        warnings=read.warnings,
        unreadable=read.unreadable,
    )


def fieldmap_names(settings: StreamSettings) -> frozenset[str]:
    """Fields that the configuration maps itself."""
    return frozenset(settings.fields)


def _dialect(settings: StreamSettings) -> Dialect:
    return Dialect(
        encoding=settings.options.get("encoding"), delimiter=settings.options.get("delimiter")
    )


def _pointed(text: str) -> str:
    """``1.234,50`` as ``1234.50``; what is no such number stays as it is."""
    found = _WITH_COMMA.fullmatch(text)
    if found is None:
        return text
    whole = re.sub(r"\D", "", found["whole"])
    rest = "" if found["rest"] is None else f".{found['rest']}"
    return f"{found['sign']}{whole}{rest}"


_WITH_COMMA: Final = re.compile(
    r"(?P<sign>[+-]?)"
    r"(?P<whole>\d+|\d{1,3}(?:(?P<group>[. \u00a0\u202f'\u2019])\d{3})(?:(?P=group)\d{3})*)"
    r"(?:,(?P<rest>\d+))?",
    re.ASCII,
)
"""A number with a decimal comma, its thousands grouped alike or not at all."""


def connect(settings: ConnectionSettings) -> FilesConnector:
    """The factory behind the entry point ``files``."""
    return FilesConnector(settings)

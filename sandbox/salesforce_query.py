"""Answers a parsed SOQL query from the org's records, as the run-time user would see them.

Pages: SOQL and SOSL Reference, "Comparison Operators", "ORDER BY", "Using Relationship
Queries", "SOQL with null values"; the sentences of the errors are the vendor's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final, TypeAlias

from sandbox.org import Record, Value
from sandbox.salesforce_ids import is_id, long_id
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_schema import FieldSpec, ObjectSpec
from sandbox.salesforce_values import stamp_text
from sandbox.soql import (
    Comparison,
    Condition,
    FieldPath,
    Junction,
    LiteralValue,
    Negation,
    Ordering,
    Query,
    SoqlError,
    like_pattern,
    located,
    plain_text,
)

Key: TypeAlias = str | float | int | bool | datetime | None
"""A value in the form in which it is compared: text folded, stamps as instants."""
Getter: TypeAlias = Callable[[Record], Value]
KeyGetter: TypeAlias = Callable[[Record], Key]
Test: TypeAlias = Callable[[Record], bool]

MAX_PARENTS: Final = 5  # SOQL Reference, "Understanding Relationship Query Limitations"
_PLEASE: Final = "Please reference your WSDL or the describe call for the appropriate names."


@dataclass(frozen=True, slots=True)
class Column:
    """A field path looked up in the schema: how to show it and how to compare it."""

    names: tuple[str, ...]
    """The path in the schema's spelling."""
    spec: FieldSpec
    show: Getter
    key: KeyGetter


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a query asked for, in order, and how each one is shown."""

    rows: tuple[Record, ...]
    show: Callable[[Record], dict[str, object]]
    columns: tuple[FieldSpec, ...]


class Reader:
    """Looks up and runs one query against the org.

    Args:
        org: The org.
        query: The parsed statement.
        version: The API version of the request, for record URLs.
        tooling: Whether the Tooling API's objects are asked instead of the org's records.

    Raises:
        SoqlError: for objects and fields that are unknown or hidden from the run-time user,
            and for literals or operators that do not fit a field.
    """

    def __init__(
        self, org: SalesforceOrg, query: Query, *, version: str, tooling: bool = False
    ) -> None:
        self._org = org
        self._tooling = tooling
        self._query = query
        self._version = version
        self._object = self._look_up_object()
        self._columns = [self._column(path) for path in query.fields]
        self._refuse_doubles()
        self._test = self._condition(query.where) if query.where is not None else None
        self._order = [(term, self._sort_column(term)) for term in query.order]

    def run(self, *, include_deleted: bool) -> Found:
        """Find the rows; `include_deleted` is queryAll's difference."""
        live_only = not include_deleted and self._object.get("IsDeleted") is not None
        rows = self._limited(self._ordered(self._matching(live_only=live_only)))
        return Found(tuple(rows), self._show, tuple(column.spec for column in self._columns))

    # Names

    def _look_up_object(self) -> ObjectSpec:
        spec = self._org.object_spec(self._query.object, tooling=self._tooling)
        if spec is None:
            message = (
                f"sObject type '{self._query.object}' is not supported. If you are attempting to "
                "use a custom object, be sure to append the '__c' after the entity name. " + _PLEASE
            )
            raise SoqlError(
                "INVALID_TYPE", located(self._query.text, self._query.object_at, message)
            )
        return spec

    def _column(self, path: FieldPath) -> Column:
        return self._resolved(self._object, path, path.names, depth=0)

    def _resolved(
        self, spec: ObjectSpec, path: FieldPath, names: tuple[str, ...], *, depth: int
    ) -> Column:
        if len(names) == 1:
            return self._own_column(spec, path, names[0])
        link = spec.relation(names[0])
        parent = self._org.object_spec(link.reference_to[0]) if link else None
        if link is None or parent is None or not self._org.may_read(spec, link):
            message = (
                f"Didn't understand relationship '{names[0]}' in field path. If you are attempting "
                "to use a custom relationship, be sure to append the '__r' after the custom "
                "relationship name. " + _PLEASE
            )
            raise self._refused("INVALID_FIELD", path, message)
        if depth >= MAX_PARENTS:
            raise self._refused("INVALID_FIELD", path, "maximum relationship depth exceeded")
        inner = self._resolved(parent, path, names[1:], depth=depth + 1)
        return self._through(link, parent, inner)

    def _own_column(self, spec: ObjectSpec, path: FieldPath, name: str) -> Column:
        found = spec.get(name)
        if found is None or not self._org.may_read(spec, found):
            message = (
                f"No such column '{name}' on entity '{spec.name}'. If you are attempting to use a "
                "custom field, be sure to append the '__c' after the custom field name. " + _PLEASE
            )
            raise self._refused("INVALID_FIELD", path, message)
        show = shown(self._org, found)
        return Column((found.name,), found, show, _key_of(found, show))

    def _through(self, link: FieldSpec, parent: ObjectSpec, inner: Column) -> Column:
        rows = self._org.rows(parent.name)
        link_name = link.name
        show_link = shown(self._org, link)
        # A boolean of a missing parent counts as false (SOQL Reference, "WHERE": outer joins).
        absent: Key = False if inner.spec.type == "boolean" else None

        def parent_of(record: Record) -> Record | None:
            found = show_link(record)
            return rows.get(found) if isinstance(found, str) else None

        def show(record: Record) -> Value:
            found = parent_of(record)
            return None if found is None else inner.show(found)

        def key(record: Record) -> Key:
            found = parent_of(record)
            return absent if found is None else inner.key(found)

        names = (link.relationship or link_name, *inner.names)
        return Column(names, inner.spec, show, key)

    def _refuse_doubles(self) -> None:
        seen: set[tuple[str, ...]] = set()
        for column, path in zip(self._columns, self._query.fields, strict=True):
            if column.names in seen:
                message = f"duplicate field selected: {'.'.join(column.names)}"
                raise self._refused("INVALID_FIELD", path, message)
            seen.add(column.names)

    def _refused(self, code: str, path: FieldPath, message: str) -> SoqlError:
        return SoqlError(code, located(self._query.text, path.at, message))

    # WHERE

    def _condition(self, condition: Condition) -> Test:
        if isinstance(condition, Negation):
            inner = self._condition(condition.inner)
            return lambda record: not inner(record)
        if isinstance(condition, Junction):
            tests = [self._condition(part) for part in condition.parts]
            if condition.operator == "AND":
                return lambda record: all(test(record) for test in tests)
            return lambda record: any(test(record) for test in tests)
        return self._comparison(condition)

    def _comparison(self, comparison: Comparison) -> Test:
        column = self._column(comparison.field)
        self._check_filterable(comparison, column)
        if comparison.operator == "LIKE":
            return self._like(comparison, column)
        if comparison.operator in {"INCLUDES", "EXCLUDES"}:
            return _includes(comparison, column)
        keys = [self._literal_key(comparison, column, each) for each in comparison.values]
        return _comparing(comparison.operator, column.key, keys)

    def _check_filterable(self, comparison: Comparison, column: Column) -> None:
        name, spec, operator = comparison.field.text, column.spec, comparison.operator
        if not spec.filterable:
            message = f"field '{name}' can not be filtered in a query call"
            raise self._refused("INVALID_FIELD", comparison.field, message)
        fits = {
            "LIKE": spec.is_text,
            "INCLUDES": spec.type == "multipicklist",
            "EXCLUDES": spec.type == "multipicklist",
        }.get(operator, spec.type != "boolean" or operator in {"=", "!=", "IN", "NOT IN"})
        if not fits:
            kind = "id" if spec.is_id else spec.type
            message = f"invalid operator on {kind} field"
            raise self._refused("INVALID_QUERY_FILTER_OPERATOR", comparison.field, message)

    def _like(self, comparison: Comparison, column: Column) -> Test:
        literal = comparison.values[0]
        if literal.kind != "string":
            raise self._wrong_kind(comparison, "string", quoted=True)
        pattern, show = like_pattern(str(literal.value)), column.show
        # A null never is like anything, not even '%'.
        return lambda record: (
            isinstance(text := show(record), str) and pattern.fullmatch(text) is not None
        )

    def _literal_key(self, comparison: Comparison, column: Column, literal: LiteralValue) -> Key:
        spec, value = column.spec, literal.value
        if literal.kind == "null":
            return False if spec.type == "boolean" else None
        if spec.is_id:
            return self._id_key(comparison, literal)
        if spec.is_text:
            if not isinstance(value, str):
                raise self._wrong_kind(comparison, "string", quoted=True)
            return plain_text(value).casefold() or None
        if spec.is_number:
            if not isinstance(value, Decimal):
                raise self._wrong_kind(comparison, "int" if spec.type == "int" else "double")
            return float(value)
        if spec.type == "boolean":
            if not isinstance(value, bool):
                raise self._wrong_kind(comparison, "boolean")
            return value
        return self._instant_key(comparison, spec, literal)

    def _id_key(self, comparison: Comparison, literal: LiteralValue) -> Key:
        if literal.kind != "string":
            raise self._wrong_kind(comparison, "string", quoted=True)
        text = str(literal.value)
        if not text:
            return None
        if not is_id(text):
            message = f"invalid ID field: {text}"
            raise self._refused("INVALID_QUERY_FILTER_OPERATOR", comparison.field, message)
        return long_id(text)

    def _instant_key(self, comparison: Comparison, spec: FieldSpec, literal: LiteralValue) -> Key:
        # SOQL Reference, "Date Formats and Date Literals": a dateTime literal filters only
        # dateTime fields, a date literal only date fields, and neither is quoted.
        value = literal.value
        if spec.type == "date":
            if literal.kind != "date" or not isinstance(value, date):
                raise self._wrong_kind(comparison, "date")
            return value.isoformat()
        if literal.kind != "dateTime" or not isinstance(value, datetime):
            raise self._wrong_kind(comparison, "dateTime")
        return value

    def _wrong_kind(self, comparison: Comparison, kind: str, *, quoted: bool = False) -> SoqlError:
        message = (
            f"value of filter criterion for field '{comparison.field.text}' must be of type {kind} "
            f"and should {'' if quoted else 'not '}be enclosed in quotes"
        )
        return self._refused("INVALID_FIELD", comparison.field, message)

    # Rows

    def _matching(self, *, live_only: bool) -> Iterator[Record]:
        test = self._test
        for record in self._candidates():
            if live_only and record.state.deleted_at is not None:
                continue
            if test is None or test(record):
                yield record

    def _candidates(self) -> Iterable[Record]:
        """The records that the bounds on SystemModstamp leave, by stamp and id if that helps."""
        low, high = _stamp_bounds(self._query.where)
        if low is None and high is None and not self._is_ordered_by_stamp():
            return list(self._org.rows(self._object.name).values())
        index = self._org.by_stamp(self._object.name)
        first = 0 if low is None else bisect_left(index, low, key=lambda row: row[0])
        last = len(index) if high is None else bisect_right(index, high, key=lambda row: row[0])
        return (index[at][2] for at in range(first, last))

    def _is_ordered_by_stamp(self) -> bool:
        return [(c.names, t.descending) for t, c in self._order] == [
            (("SystemModstamp",), False),
            (("Id",), False),
        ]

    def _ordered(self, rows: Iterator[Record]) -> Iterable[Record]:
        if self._is_ordered_by_stamp():
            return rows  # they come from the index in this order
        # Rows that ORDER BY does not tell apart come in no order a client may rely on (SOQL
        # Reference, "ORDER BY"): neither by age nor by id.
        out = sorted(rows, key=lambda record: record.id[14::-1])
        for term, column in reversed(self._order):
            present = [record for record in out if column.key(record) is not None]
            absent = [record for record in out if column.key(record) is None]
            present.sort(key=_sort_key(column.key), reverse=term.descending)
            out = [*present, *absent] if term.nulls_last else [*absent, *present]
        return out

    def _sort_column(self, term: Ordering) -> Column:
        column = self._column(term.field)
        if not column.spec.filterable:
            message = f"field '{term.field.text}' can not be sorted in a query call"
            raise self._refused("MALFORMED_QUERY", term.field, message)
        return column

    def _limited(self, rows: Iterable[Record]) -> list[Record]:
        out: list[Record] = []
        limit = self._query.limit
        for at, record in enumerate(rows):
            if limit is not None and len(out) >= limit:
                break
            if at >= self._query.offset:
                out.append(record)
        return out

    # Showing

    def _show(self, record: Record) -> dict[str, object]:
        row: dict[str, object] = {"attributes": attributes(self._object, record, self._version)}
        for column in self._columns:
            self._put(row, column, record)
        return row

    def _put(self, row: dict[str, object], column: Column, record: Record) -> None:
        place, spec, holder = row, self._object, record
        for name in column.names[:-1]:
            parent = self._parent(spec, name, holder)
            if parent is None:
                place[name] = None  # an empty lookup shows as one null, not as empty fields
                return
            spec, holder = parent
            inner = place.setdefault(name, {"attributes": attributes(spec, holder, self._version)})
            if not isinstance(inner, dict):
                return
            place = inner
        place[column.names[-1]] = column.show(record)

    def _parent(
        self, spec: ObjectSpec, name: str, record: Record
    ) -> tuple[ObjectSpec, Record] | None:
        link = spec.relation(name)
        parent = self._org.object_spec(link.reference_to[0]) if link else None
        if link is None or parent is None:
            return None
        found = self._org.rows(parent.name).get(str(shown(self._org, link)(record)))
        return None if found is None else (parent, found)


def attributes(spec: ObjectSpec, record: Record, version: str) -> dict[str, object]:
    """The `attributes` member of a row."""
    return {
        "type": spec.name,
        "url": f"/services/data/v{version}/sobjects/{spec.name}/{record.id}",
    }


_MARKS: Final[Mapping[str, Getter]] = {
    "Id": lambda record: record.id,
    "IsDeleted": lambda record: record.is_deleted,
    "MasterRecordId": lambda record: record.state.merged_into,
    "CreatedDate": lambda record: stamp_text(record.created_at),
    "LastModifiedDate": lambda record: stamp_text(record.state.modified_at),
    "SystemModstamp": lambda record: stamp_text(record.state.modified_at),
}


def shown(org: SalesforceOrg, spec: FieldSpec) -> Getter:
    """How a field of a record is read: marks from the record, values from its fields."""
    name = spec.name
    if name in _MARKS:
        return _MARKS[name]
    if name == "CreatedById":
        return lambda record: org.user_of(record.created_by)
    if name == "LastModifiedById":
        return lambda record: org.user_of(record.state.modified_by)
    if spec.type == "boolean":
        # A checkbox is never null, also where the record is older than the field.
        default = spec.default is True
        return lambda record: record.state.fields.get(name, default)
    return lambda record: record.state.fields.get(name)


_STAMPS: Final[Mapping[str, KeyGetter]] = {
    "CreatedDate": lambda record: record.created_at,
    "LastModifiedDate": lambda record: record.state.modified_at,
    "SystemModstamp": lambda record: record.state.modified_at,
}


def _key_of(spec: FieldSpec, show: Getter) -> KeyGetter:
    if spec.name in _STAMPS:
        return _STAMPS[spec.name]
    if spec.is_text:
        return lambda record: text.casefold() if isinstance(text := show(record), str) else None
    if spec.type == "datetime":
        return lambda record: _instant(show(record))
    if spec.type == "boolean":
        return lambda record: show(record) is True
    return show


def _instant(value: Value) -> datetime | None:
    if not isinstance(value, str):
        return None
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.000%z").astimezone(UTC)


def _comparing(operator: str, key: KeyGetter, keys: list[Key]) -> Test:
    wanted = keys[0]
    match operator:
        case "=":
            return lambda record: key(record) == wanted
        case "!=":
            # Rows without a value are included (SOQL Reference, "Comparison Operators").
            return lambda record: key(record) != wanted
        case "IN":
            among = frozenset(keys)
            return lambda record: key(record) in among
        case "NOT IN":
            among = frozenset(keys)
            return lambda record: key(record) not in among
    return _ranging(operator, key, wanted)


def _ranging(operator: str, key: KeyGetter, wanted: Key) -> Test:
    below = {"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}[operator]

    def test(record: Record) -> bool:
        found = key(record)
        return found is not None and wanted is not None and _sign(found, wanted) in below

    return test


def _sign(left: Key, right: Key) -> int:
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    if isinstance(left, datetime) and isinstance(right, datetime):
        return (left > right) - (left < right)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return (left > right) - (left < right)
    raise TypeError(f"cannot compare {left!r} with {right!r}")


def _sort_key(key: KeyGetter) -> Callable[[Record], tuple[str, float, datetime]]:
    epoch = datetime.fromtimestamp(0, UTC)

    def of(record: Record) -> tuple[str, float, datetime]:
        found = key(record)
        if isinstance(found, str):
            return (found, 0.0, epoch)
        return ("", 0.0, found) if isinstance(found, datetime) else ("", float(found or 0), epoch)

    return of


def _includes(comparison: Comparison, column: Column) -> Test:
    wanted = [
        {part.casefold() for part in plain_text(str(literal.value)).split(";")}
        for literal in comparison.values
    ]
    negated, show = comparison.operator == "EXCLUDES", column.show

    def test(record: Record) -> bool:
        found = show(record)
        have = {part.casefold() for part in found.split(";")} if isinstance(found, str) else set()
        return any(parts <= have for parts in wanted) is not negated

    return test


def _stamp_bounds(where: Condition | None) -> tuple[datetime | None, datetime | None]:
    """Bounds, both included, that every matching row's SystemModstamp keeps."""
    low: datetime | None = None
    high: datetime | None = None
    for part in _conjuncts(where):
        if tuple(name.lower() for name in part.field.names) != ("systemmodstamp",):
            continue
        value = part.values[0].value
        if not isinstance(value, datetime) or len(part.values) > 1:
            continue
        if part.operator in {"=", ">", ">="}:
            low = value if low is None else max(low, value)
        if part.operator in {"=", "<", "<="}:
            high = value if high is None else min(high, value)
    return low, high


def _conjuncts(where: Condition | None) -> Iterator[Comparison]:
    if isinstance(where, Comparison):
        yield where
    elif isinstance(where, Junction) and where.operator == "AND":
        for part in where.parts:
            yield from _conjuncts(part)

"""Answers a parsed SOQL query from the org's records, as the run-time user would see them.

Pages: SOQL and SOSL Reference, "ORDER BY", "Using Relationship Queries", "Understanding
Relationship Query Limitations"; the sentences of the errors are the vendor's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from sandbox.org import Record
from sandbox.salesforce_candidates import candidates
from sandbox.salesforce_columns import (
    Column,
    Getter,
    KeyGetter,
    own_column,
    parent_finder,
    through,
)
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_filters import Filter, refused
from sandbox.salesforce_history import hidden_history
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_schema import name_object
from sandbox.soql import FieldPath, Ordering, Query, SoqlError, located

MAX_PARENTS: Final = 5  # SOQL Reference, "Understanding Relationship Query Limitations"
MAX_RELATIONSHIPS: Final = 55  # the same page: child-to-parent relationships in one query
_PLEASE: Final = "Please reference your WSDL or the describe call for the appropriate names."
_NAME: Final = name_object()


@dataclass(frozen=True, slots=True)
class Found:
    """The rows a query asked for, in order, and how each one is shown."""

    rows: tuple[Record, ...]
    show: Callable[[Record], dict[str, object]]
    columns: tuple[Column, ...]


@dataclass(slots=True)
class _Node:
    """One object of a row: what it shows, in the order asked for, parents as nodes of their own."""

    items: dict[str, Getter | _Parent] = field(default_factory=dict)


@dataclass(slots=True)
class _Parent:
    find: Callable[[Record], Record | None]
    is_polymorphic: bool
    node: _Node = field(default_factory=_Node)


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
        self._relationships: set[tuple[str, ...]] = set()
        self.object = self._look_up_object()
        self.columns = [self._column(path) for path in query.fields]
        self._refuse_doubles()
        filters = Filter(query, self._column)
        self._test = filters.test(query.where) if query.where is not None else None
        self._order = [(term, self._sort_column(term)) for term in query.order]
        self._root = self._tree()

    def run(self, *, include_deleted: bool) -> Found:
        """Find the rows; `include_deleted` is queryAll's difference."""
        live_only = not include_deleted and self.object.get("IsDeleted") is not None
        found = candidates(self._org, self.object, self._query)
        rows: Iterable[Record] = self._matching(found.records, live_only=live_only)
        if not found.is_ordered:
            rows = self._ordered(rows)
        return Found(tuple(self._limited(rows)), self._show, tuple(self.columns))

    def fits_more_than(self, rows: int) -> bool:
        """Whether more records than that fit the conditions, whatever LIMIT says."""
        found = candidates(self._org, self.object, self._query)
        matching = self._matching(found.records, live_only=False)
        return next(islice(matching, rows, None), None) is not None

    # Names

    def _look_up_object(self) -> ObjectSpec:
        spec = self._org.visible_spec(self._query.object, tooling=self._tooling)
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
        return self._resolved(self.object, path, path.names, ())

    def _resolved(
        self, spec: ObjectSpec, path: FieldPath, names: tuple[str, ...], before: tuple[str, ...]
    ) -> Column:
        if len(names) == 1:
            return self._own_column(spec, path, names[0])
        link = spec.relation(names[0])
        parent = self._parent_spec(link)
        if link is None or parent is None or not self._org.access.may_read(spec, link):
            message = (
                f"Didn't understand relationship '{names[0]}' in field path. If you are attempting "
                "to use a custom relationship, be sure to append the '__r' after the custom "
                "relationship name. " + _PLEASE
            )
            raise self._refused("INVALID_FIELD", path, message)
        if len(before) >= MAX_PARENTS:
            raise self._refused("INVALID_FIELD", path, "maximum relationship depth exceeded")
        way = (*before, names[0].lower())
        self._relationships.add(way)
        if len(self._relationships) > MAX_RELATIONSHIPS:
            message = f"a query may follow at most {MAX_RELATIONSHIPS} relationships"
            raise self._refused("MALFORMED_QUERY", path, message)
        inner = self._resolved(parent, path, names[1:], way)
        return through(link.relationship or link.name, parent_finder(self._org, link), inner)

    def _parent_spec(self, link: FieldSpec | None) -> ObjectSpec | None:
        if link is None:
            return None
        if len(link.reference_to) > 1:
            return _NAME  # SOQL Reference, "Understanding Polymorphic Keys and Relationships"
        return self._org.visible_spec(link.reference_to[0])

    def _own_column(self, spec: ObjectSpec, path: FieldPath, name: str) -> Column:
        found = spec.get(name)
        if found is None or not self._org.access.may_read(spec, found):
            message = (
                f"No such column '{name}' on entity '{spec.name}'. If you are attempting to use a "
                "custom field, be sure to append the '__c' after the custom field name. " + _PLEASE
            )
            raise self._refused("INVALID_FIELD", path, message)
        return own_column(self._org, found)

    def _refuse_doubles(self) -> None:
        seen: set[tuple[str, ...]] = set()
        for column, path in zip(self.columns, self._query.fields, strict=True):
            if column.names in seen:
                message = f"duplicate field selected: {'.'.join(column.names)}"
                raise self._refused("INVALID_FIELD", path, message)
            seen.add(column.names)

    def _refused(self, code: str, path: FieldPath, message: str) -> SoqlError:
        return refused(self._query, code, path, message)

    # Rows

    def _matching(self, records: Iterable[Record], *, live_only: bool) -> Iterator[Record]:
        test = self._test
        hidden_records = self._org.access.hidden_records
        hidden_fields = hidden_history(self._org, self.object)
        for record in records:
            if live_only and record.state.deleted_at is not None:
                continue
            if test is not None and not test(record):
                continue
            if record.id in hidden_records or (hidden_fields and record["Field"] in hidden_fields):
                continue
            yield record

    def _ordered(self, rows: Iterable[Record]) -> list[Record]:
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

    def _tree(self) -> _Node:
        root = _Node()
        for column in self.columns:
            node = root
            for relationship, find in column.links:
                known = node.items.get(relationship)
                if not isinstance(known, _Parent):
                    known = _Parent(find, is_polymorphic=self._is_polymorphic(relationship))
                    node.items[relationship] = known
                node = known.node
            node.items[column.names[-1]] = column.leaf
        return root

    def _is_polymorphic(self, relationship: str) -> bool:
        link = self.object.relation(relationship)
        return link is not None and len(link.reference_to) > 1

    def _show(self, record: Record) -> dict[str, object]:
        return self._shown(self._root, record, self.object.name, self.object.name)

    def _shown(self, node: _Node, record: Record, name: str, kind: str) -> dict[str, object]:
        url = f"/services/data/v{self._version}/sobjects/{name}/{record.id}"
        row: dict[str, object] = {"attributes": {"type": kind, "url": url}}
        for label, item in node.items.items():
            if not isinstance(item, _Parent):
                row[label] = item(record)
                continue
            parent = item.find(record)
            if parent is None:
                row[label] = None  # an empty lookup shows as one null, not as empty fields
                continue
            name = parent.object_name
            row[label] = self._shown(
                item.node, parent, name, "Name" if item.is_polymorphic else name
            )
        return row


def _sort_key(key: KeyGetter) -> Callable[[Record], tuple[str, float, datetime]]:
    epoch = datetime.fromtimestamp(0, UTC)

    def of(record: Record) -> tuple[str, float, datetime]:
        found = key(record)
        if isinstance(found, str):
            return (found, 0.0, epoch)
        return ("", 0.0, found) if isinstance(found, datetime) else ("", float(found or 0), epoch)

    return of

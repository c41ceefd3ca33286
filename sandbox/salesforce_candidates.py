"""Finds the records that a query may match without looking at all of them.

What is found here is still tested by the whole condition; an index only makes the search short.
Queries on indexed fields are quick at the vendor too (SOQL Reference, "Query & Search
Optimization": Id, lookups, SystemModstamp, CreatedDate).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sandbox.org import Record
from sandbox.salesforce_fields import ObjectSpec
from sandbox.salesforce_ids import long_id
from sandbox.salesforce_indexes import STAMPS
from sandbox.salesforce_org import SalesforceOrg
from sandbox.soql import Comparison, Condition, Junction, Query

_LAST: Final = "\uffff"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Records to test, and whether they come in the order that ORDER BY asks for."""

    records: Iterable[Record]
    is_ordered: bool = False


def candidates(org: SalesforceOrg, spec: ObjectSpec, query: Query) -> Candidates:
    """The records that the query's bounds leave."""
    parts = list(_conjuncts(query.where))
    rows = org.rows(spec.name)
    order = _ascending(query)
    if (ids := _listed_ids(parts, "id")) is not None:
        return Candidates([rows[each] for each in ids if each in rows])
    low_id = _low_id(parts)
    for stamp in STAMPS:
        if spec.get(stamp) is None:
            continue
        low, high = _bounds(parts, stamp)
        pinned = low is not None and low == high
        if pinned and order == ("id",):
            return Candidates(_slice(org, spec, stamp, (low, low_id), high), is_ordered=True)
        if order == (stamp.lower(), "id"):
            return Candidates(_slice(org, spec, stamp, (low, ""), high), is_ordered=True)
    if order == ("id",):
        ids_in_order = org.indexes.ids(spec.name)
        first = bisect_left(ids_in_order, low_id)
        found = (rows[ids_in_order[at]] for at in range(first, len(ids_in_order)))
        return Candidates(found, is_ordered=True)
    if (children := _children(org, spec, parts)) is not None:
        return Candidates(children)
    for stamp in STAMPS:
        low, high = _bounds(parts, stamp)
        if spec.get(stamp) is not None and (low is not None or high is not None):
            return Candidates(_slice(org, spec, stamp, (low, ""), high))
    return Candidates(list(rows.values()))


def _slice(
    org: SalesforceOrg,
    spec: ObjectSpec,
    stamp: str,
    low: tuple[datetime | None, str],
    high: datetime | None,
) -> Iterator[Record]:
    index = org.indexes.placed(spec.name, stamp)
    instant, record_id = low
    first = 0 if instant is None else bisect_left(index, (instant, record_id), key=_place)
    last = len(index) if high is None else bisect_right(index, (high, _LAST), key=_place)
    return (index[at][2] for at in range(first, last))


def _place(row: tuple[datetime, str, Record]) -> tuple[datetime, str]:
    return row[0], row[1]


def _ascending(query: Query) -> tuple[str, ...]:
    """The names that ORDER BY sorts by, if all of them ascend."""
    if any(term.descending or term.nulls_last for term in query.order):
        return ()
    return tuple(term.field.text.lower() for term in query.order)


def _listed_ids(parts: list[Comparison], name: str) -> list[str] | None:
    """The ids that a field must be one of."""
    for part in parts:
        if part.field.text.lower() == name and part.operator in {"=", "IN"}:
            texts = [each.value for each in part.values]
            if all(isinstance(each, str) for each in texts):
                return list(dict.fromkeys(long_id(str(each)) for each in texts))
    return None


def _low_id(parts: list[Comparison]) -> str:
    lows = [
        long_id(str(part.values[0].value))
        for part in parts
        if part.field.text.lower() == "id" and part.operator in {">", ">="}
    ]
    return max(lows, default="")


def _children(org: SalesforceOrg, spec: ObjectSpec, parts: list[Comparison]) -> list[Record] | None:
    for part in parts:
        each = spec.get(part.field.text)
        if each is None or each.type != "reference" or each.name in _NOT_VALUES:
            continue
        ids = _listed_ids([part], part.field.text.lower())
        if ids is None:
            continue
        groups = org.indexes.referring(spec.name, each.name)
        return [record for each_id in ids for record in groups.get(each_id, {}).values()]
    return None


_NOT_VALUES: Final = frozenset({"CreatedById", "LastModifiedById", "MasterRecordId"})
"""References that are marks of a record, not among its values."""


def _bounds(parts: list[Comparison], stamp: str) -> tuple[datetime | None, datetime | None]:
    """Bounds, both included, that every matching row's instant keeps."""
    low: datetime | None = None
    high: datetime | None = None
    for part in parts:
        value = part.values[0].value
        if part.field.text.lower() != stamp.lower() or len(part.values) > 1:
            continue
        if not isinstance(value, datetime):
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

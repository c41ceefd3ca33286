"""The search endpoint: what it accepts, what it finds, in which order ("Search the CRM" guide).

The limits of the guide: 5 filter groups of 6 filters, 18 in all; one sort; 200 results a page;
10,000 results a query. Records with equal sort values come in no promised order, here in a
random one. Names of unknown properties are refused, unlike on reads.
"""

from __future__ import annotations

import fnmatch
import json
import operator
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any, TypeAlias

from sandbox.hubspot_errors import HubSpotError, bad_request
from sandbox.hubspot_index import Found, SearchIndex, milliseconds
from sandbox.hubspot_portal import OF_LINKS, Portal
from sandbox.hubspot_properties import Property, parsed_instant
from sandbox.hubspot_types import ObjectType
from sandbox.org import Record, State

MOST_GROUPS = 5
MOST_FILTERS_OF_GROUP = 6
MOST_FILTERS = 18
LARGEST_PAGE = 200
DEFAULT_PAGE = 10
LAST_RESULT = 10_000
LONGEST_QUERY = 3_000
"""Characters of `query`, as the OpenAPI says; the guide says it of the body, peers send more."""
RECORD_ID = "hs_object_id"

Number: TypeAlias = int | Decimal
Key: TypeAlias = Number | str | None
"""A property value as the index compares it; None: the property is unknown for the record."""

Test: TypeAlias = Callable[[Record, State], bool]


@dataclass(frozen=True, slots=True)
class Range:
    """Whole numbers from `low` to below `high`; None: no end."""

    low: int | None = None
    high: int | None = None

    def within(self, other: Range) -> Range:
        """What both have."""
        lows = [it for it in (self.low, other.low) if it is not None]
        highs = [it for it in (self.high, other.high) if it is not None]
        return Range(max(lows, default=None), min(highs, default=None))


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: its test, and what it says of an id or a modified date."""

    name: str
    raw: str
    """Its JSON: what tells two filters apart."""
    test: Test
    range: Range | None = None
    """Of an id or a modified date, where the operator gives one: the test is then the range."""


@dataclass(frozen=True, slots=True)
class Sort:
    """The one sort of a search."""

    name: str
    key: Callable[[Record, State], Key]
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A search request that keeps the rules."""

    groups: Sequence[Sequence[Filter]]
    sort: Sort | None
    text: str
    limit: int
    after: int
    properties: Sequence[str]

    def range_of(self, name: str) -> Range:
        """What the filters say of this property; without bounds where there are groups to OR."""
        found = Range()
        for one in self.groups[0] if len(self.groups) == 1 else ():
            if one.name == name and one.range is not None:
                found = found.within(one.range)
        return found

    def without_ranges(self, names: Collection[str]) -> Sequence[Sequence[Filter]]:
        """The groups without the ranges of these properties, which the index answers."""
        if len(self.groups) != 1:
            return self.groups
        return [[one for one in self.groups[0] if one.name not in names or one.range is None]]


def parse(portal: Portal, object_type: str, body: Mapping[str, object]) -> Query:
    """Check a request body.

    Raises:
        HubSpotError: 400 for each rule that is broken.
    """
    limit = _whole(body.get("limit", DEFAULT_PAGE), "limit")
    after = _whole(body.get("after") or 0, "after")
    if limit > LARGEST_PAGE:
        raise bad_request(f"limit must be at most {LARGEST_PAGE}, got {limit}")
    if after + limit > LAST_RESULT:
        # `paging.next.after` may say 10000, but it cannot be asked for.
        raise bad_request(f"search results beyond {LAST_RESULT} cannot be paged to")
    if len(str(body.get("query") or "")) > LONGEST_QUERY:
        raise bad_request(f"query must have at most {LONGEST_QUERY} characters")
    return Query(
        groups=_groups(portal, object_type, body),
        sort=_sort(portal, object_type, body.get("sorts") or []),
        text=str(body.get("query") or "").lower(),
        limit=limit,
        after=after,
        properties=[str(name) for name in _list(body.get("properties") or [], "properties")],
    )


def run(portal: Portal, object_type: str, query: Query) -> tuple[int, Sequence[Found]]:
    """The number of all matches and the page of them that was asked for."""
    index = portal.index(object_type)
    ids = _within(_matches(index, portal.types[object_type], query), query.range_of(RECORD_ID))
    if query.sort is not None and query.sort.name == RECORD_ID:
        total, page = len(ids), _page_by_id(ids, query, descending=query.sort.descending)
        return total, [index.records[number] for number in page]
    found = [index.records[number] for number in ids]
    # Ties have no promised order: shuffle, then sort stably.
    portal.random.shuffle(found)
    if query.sort is not None:
        found = _sorted(found, query.sort)
    return len(found), found[query.after : query.after + query.limit]


def _matches(index: SearchIndex, kind: ObjectType, query: Query) -> Sequence[int]:
    """Ids of the matches, rising, whatever ids are asked for: the next page needs them again."""
    groups = query.without_ranges((RECORD_ID, kind.modified))
    modified = query.range_of(kind.modified)
    is_tested = any(groups) or bool(query.text)
    if not is_tested and modified == Range():
        return index.ids()

    def find() -> list[int]:
        numbers = (
            index.ids()
            if modified == Range()
            else index.modified_within(modified.low, modified.high)
        )
        if not is_tested:
            return sorted(numbers)
        return sorted(it for it in numbers if _fits(index.records[it], kind, groups, query.text))

    names = {one.name for group in groups for one in group}
    if any(name in OF_LINKS or name.startswith("associations.") for name in names):
        return find()  # Links change without the index.
    raw = [[one.raw for one in group] for group in groups]
    return index.remembered(repr((query.text, modified, raw)), find)


def _fits(found: Found, kind: ObjectType, groups: Sequence[Sequence[Filter]], text: str) -> bool:
    record, state = found
    if text and not any(
        text in str(state.fields.get(name) or "").lower() for name in kind.searched
    ):
        return False
    return not groups or any(all(one.test(record, state) for one in group) for group in groups)


def _within(ids: Sequence[int], wanted: Range) -> Sequence[int]:
    if wanted == Range():
        return ids
    start = 0 if wanted.low is None else bisect_left(ids, wanted.low)
    end = len(ids) if wanted.high is None else bisect_left(ids, wanted.high)
    return ids[start:end]


def _page_by_id(ids: Sequence[int], query: Query, *, descending: bool) -> Sequence[int]:
    if not descending:
        return ids[query.after : query.after + query.limit]
    end = max(len(ids) - query.after, 0)
    return ids[max(end - query.limit, 0) : end][::-1]


def _sorted(found: Sequence[Found], sort: Sort) -> list[Found]:
    keyed = [(sort.key(record, state), (record, state)) for record, state in found]
    numbers = [(k, it) for k, it in keyed if isinstance(k, int | Decimal)]
    texts = [(k, it) for k, it in keyed if isinstance(k, str)]
    numbers.sort(key=lambda pair: pair[0], reverse=sort.descending)
    texts.sort(key=lambda pair: pair[0], reverse=sort.descending)
    unknown = [it for k, it in keyed if k is None]
    return [*(it for _, it in numbers), *(it for _, it in texts), *unknown]


def _groups(
    portal: Portal, object_type: str, body: Mapping[str, object]
) -> Sequence[Sequence[Filter]]:
    raw_groups = _list(body.get("filterGroups") or [], "filterGroups")
    groups = [
        _list(_object(group, "filterGroups").get("filters") or [], "filters")
        for group in raw_groups
    ]
    if len(groups) > MOST_GROUPS:
        raise bad_request(f"at most {MOST_GROUPS} filterGroups are allowed, got {len(groups)}")
    if any(len(group) > MOST_FILTERS_OF_GROUP for group in groups):
        raise bad_request(f"at most {MOST_FILTERS_OF_GROUP} filters are allowed in a group")
    if sum(map(len, groups)) > MOST_FILTERS:
        raise bad_request(f"at most {MOST_FILTERS} filters are allowed in all")
    return [
        [_filter(portal, object_type, _object(one, "filters")) for one in group] for group in groups
    ]


def _filter(portal: Portal, object_type: str, one: Mapping[str, object]) -> Filter:
    name = str(one.get("propertyName"))
    test = _test(portal, object_type, one)
    ranged = name in (RECORD_ID, portal.types[object_type].modified)
    bounds = _range(portal.properties[object_type][name], one) if ranged else None
    return Filter(name, json.dumps(one, sort_keys=True), test, bounds)


def _range(definition: Property, one: Mapping[str, object]) -> Range | None:
    """The whole numbers that a filter lets through; None: it is none of that kind."""
    wanted = str(one.get("operator"))
    if wanted not in _RANGES:
        return None
    low = _operand(definition, one, "value")
    high = _operand(definition, one, "highValue") if wanted == "BETWEEN" else low
    if not isinstance(low, int | Decimal) or not isinstance(high, int | Decimal):
        return None
    if low != int(low) or high != int(high):
        return None
    return _RANGES[wanted](int(low), int(high))


_RANGES: Mapping[str, Callable[[int, int], Range]] = {
    "EQ": lambda low, _: Range(low, low + 1),
    "LT": lambda low, _: Range(None, low),
    "LTE": lambda low, _: Range(None, low + 1),
    "GT": lambda low, _: Range(low + 1, None),
    "GTE": lambda low, _: Range(low, None),
    "BETWEEN": lambda low, high: Range(low, high + 1),
}


def _test(portal: Portal, object_type: str, one: Mapping[str, object]) -> Test:
    name = str(one.get("propertyName"))
    wanted = str(one.get("operator"))
    if name.startswith("associations."):
        return _association_test(portal, name, wanted, one)
    definition = _known(portal, object_type, name)
    key = _key_of(portal, portal.types[object_type], definition)
    if wanted == "HAS_PROPERTY":
        return lambda record, state: key(record, state) is not None
    if wanted == "NOT_HAS_PROPERTY":
        return lambda record, state: key(record, state) is None
    if wanted in ("IN", "NOT_IN"):
        values = _values(definition, one)
        inside = wanted == "IN"
        return lambda record, state: (key(record, state) in values) is inside
    if wanted in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        pattern = str(one.get("value") or "").lower()
        contains = wanted == "CONTAINS_TOKEN"
        return lambda record, state: _has_token(key(record, state), pattern) is contains
    if wanted == "BETWEEN":
        low, high = _operand(definition, one, "value"), _operand(definition, one, "highValue")
        above, below = _comparison(key, "GTE", low), _comparison(key, "LTE", high)
        return lambda record, state: above(record, state) and below(record, state)
    if wanted == "NEQ":
        unwanted = _operand(definition, one, "value")
        return lambda record, state: key(record, state) != unwanted
    if wanted in _COMPARISONS:
        return _comparison(key, wanted, _operand(definition, one, "value"))
    raise bad_request(f"operator {wanted} is not known", "INVALID_OPERATOR", about=name)


# Values of one property compare among themselves; what is no number where numbers are
# expected (planted by an admin) matches nothing.
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq,
    "LT": operator.lt,
    "LTE": operator.le,
    "GT": operator.gt,
    "GTE": operator.ge,
}


def _comparison(key: Callable[[Record, State], Key], name: str, operand: Key) -> Test:
    compare = _COMPARISONS[name]
    if isinstance(operand, str):

        def holds(record: Record, state: State) -> bool:
            value = key(record, state)
            return isinstance(value, str) and compare(value, operand)

    else:

        def holds(record: Record, state: State) -> bool:
            value = key(record, state)
            return value is not None and not isinstance(value, str) and compare(value, operand)

    return holds


def _has_token(value: Key, pattern: str) -> bool:
    tokens = str(value or "").lower().split()
    return any(fnmatch.fnmatchcase(token, pattern) for token in tokens)


def _association_test(portal: Portal, name: str, wanted: str, one: Mapping[str, object]) -> Test:
    other = portal.types.named(name.removeprefix("associations."))
    if other is None or other.is_custom:
        # The guide: not for custom objects.
        raise _unknown_property(name)
    raw = one.get("values") if wanted == "IN" else [one.get("value")]
    ids = {str(value) for value in _list(raw or [], "values")}
    if wanted not in ("EQ", "IN"):
        raise bad_request(f"operator {wanted} does not fit {name}", "INVALID_OPERATOR")
    return lambda record, _: not ids.isdisjoint(portal.linked(record, other.name))


def _sort(portal: Portal, object_type: str, raw: object) -> Sort | None:
    sorts = _list(raw, "sorts")
    if len(sorts) > 1:
        raise bad_request(f"only one sort is allowed, got {len(sorts)}")
    if not sorts:
        return None
    one = _object(sorts[0], "sorts")
    direction = str(one.get("direction", "ASCENDING"))
    if direction not in ("ASCENDING", "DESCENDING"):
        raise bad_request(f"direction {direction} is not ASCENDING or DESCENDING")
    definition = _known(portal, object_type, str(one.get("propertyName")))
    key = _key_of(portal, portal.types[object_type], definition)
    return Sort(definition.name, key, descending=direction == "DESCENDING")


def _known(portal: Portal, object_type: str, name: str) -> Property:
    definition = portal.properties[object_type].get(name)
    if definition is None:
        raise _unknown_property(name)
    return definition


def _unknown_property(name: str) -> HubSpotError:
    message = f'Property "{name}" does not exist'
    return bad_request(message, "PROPERTY_DOESNT_EXIST", about=name)


def _key_of(
    portal: Portal, kind: ObjectType, definition: Property
) -> Callable[[Record, State], Key]:
    """How the index orders this property; the everyday ones take no detour over text."""
    if definition.name == RECORD_ID:
        return lambda record, _: int(record.id)
    if definition.name == kind.modified:
        return lambda _, state: milliseconds(state.modified_at)
    return lambda record, state: _key(definition, portal.value(record, state, definition.name))


def _key(definition: Property, text: str | None) -> Key:
    if text is None:
        return None
    if definition.type == "number":
        try:
            return Decimal(text)
        except DecimalException:
            return text
    if definition.type in ("date", "datetime"):
        instant = parsed_instant(text if "T" in text else f"{text}T00:00:00Z")
        return text if instant is None else milliseconds(instant)
    # Texts are indexed in lower case, enumerations as they are.
    return text.lower() if definition.type == "string" else text


def _operand(definition: Property, one: Mapping[str, object], name: str) -> Key:
    raw = one.get(name)
    if raw is None:
        raise bad_request(f"{name} is missing", "MISSING_VALUE", about=definition.name)
    text = str(raw)
    instant = parsed_instant(text) if definition.type in ("date", "datetime") else None
    key = _key(definition, text) if instant is None else milliseconds(instant)
    if definition.type in ("number", "date", "datetime") and isinstance(key, str):
        code = "INVALID_INTEGER" if definition.type == "number" else "INVALID_LONG"
        raise bad_request(f"{text} was not valid", code, about=definition.name)
    return key


def _values(definition: Property, one: Mapping[str, object]) -> frozenset[Key]:
    raw = _list(one.get("values") or [], "values")
    if not raw:
        raise bad_request("values is missing", "MISSING_VALUE", about=definition.name)
    if definition.type == "string":
        # The guide: values of IN on texts have to be in lower case, else nothing is found.
        return frozenset(str(value) for value in raw)
    return frozenset(_operand(definition, {"value": value}, "value") for value in raw)


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal():
        raise bad_request(f"{name} must be a whole number, got {value!r}")
    return int(str(value))


def _list(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise bad_request(f"{name} must be a list")
    return value


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise bad_request(f"{name} must hold objects")
    return value

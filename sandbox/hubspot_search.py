"""The search endpoint: what it accepts, what it finds, in which order ("Search the CRM" guide).

The limits of the guide: 5 filter groups of 6 filters, 18 in all; one sort; 200 results a page;
10,000 results a query. Records with equal sort values come in no promised order, here in a
random one. Names of unknown properties are refused, unlike on reads.
"""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any, TypeAlias

from sandbox.hubspot_errors import HubSpotError, bad_request
from sandbox.hubspot_portal import TYPE_NAMES, Portal
from sandbox.hubspot_properties import Property, parsed_instant
from sandbox.org import Record, State

MOST_GROUPS = 5
MOST_FILTERS_OF_GROUP = 6
MOST_FILTERS = 18
LARGEST_PAGE = 200
DEFAULT_PAGE = 10
LAST_RESULT = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
TEXT_SEARCHED = ("name", "domain", "website", "dealname", "description")

Number: TypeAlias = int | Decimal
Key: TypeAlias = Number | str | None
"""A property value as the index compares it; None: the property is unknown for the record."""

Found: TypeAlias = tuple[Record, State]
Test: TypeAlias = Callable[[Record, State], bool]


@dataclass(frozen=True, slots=True)
class Sort:
    """The one sort of a search."""

    key: Callable[[Record, State], Key]
    descending: bool
    has_ties: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A search request that keeps the rules."""

    groups: Sequence[Sequence[Test]]
    sort: Sort | None
    text: str
    limit: int
    after: int
    properties: Sequence[str]


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
    found = [
        (record, state)
        for record, state in portal.searchable(object_type)
        if _matches(record, state, query)
    ]
    if query.sort is None or query.sort.has_ties:
        # Ties have no promised order: shuffle, then sort stably.
        portal.random.shuffle(found)
    if query.sort is not None:
        found = _sorted(found, query.sort)
    return len(found), found[query.after : query.after + query.limit]


def _matches(record: Record, state: State, query: Query) -> bool:
    if query.text and not any(
        query.text in str(state.fields.get(name) or "").lower() for name in TEXT_SEARCHED
    ):
        return False
    if not query.groups:
        return True
    return any(all(test(record, state) for test in group) for group in query.groups)


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
) -> Sequence[Sequence[Test]]:
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
        [_test(portal, object_type, _object(one, "filters")) for one in group] for group in groups
    ]


def _test(portal: Portal, object_type: str, one: Mapping[str, object]) -> Test:
    name = str(one.get("propertyName"))
    wanted = str(one.get("operator"))
    if name.startswith("associations."):
        return _association_test(portal, name, wanted, one)
    definition = _known(portal, object_type, name)
    key = _key_of(portal, definition)
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
    to_type = TYPE_NAMES.get(name.removeprefix("associations."))
    if to_type is None:
        raise _unknown_property(name)
    raw = one.get("values") if wanted == "IN" else [one.get("value")]
    ids = {str(value) for value in _list(raw or [], "values")}
    if wanted not in ("EQ", "IN"):
        raise bad_request(f"operator {wanted} does not fit {name}", "INVALID_OPERATOR")
    return lambda record, _: not ids.isdisjoint(portal.linked(record, to_type))


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
    return Sort(
        key=_key_of(portal, definition),
        descending=direction == "DESCENDING",
        has_ties=definition.name != "hs_object_id",
    )


def _known(portal: Portal, object_type: str, name: str) -> Property:
    definition = portal.properties[object_type].get(name)
    if definition is None:
        raise _unknown_property(name)
    return definition


def _unknown_property(name: str) -> HubSpotError:
    message = f'Property "{name}" does not exist'
    return bad_request(message, "PROPERTY_DOESNT_EXIST", about=name)


def _key_of(portal: Portal, definition: Property) -> Callable[[Record, State], Key]:
    """How the index orders this property; the everyday ones take no detour over text."""
    if definition.name == "hs_object_id":
        return lambda record, _: int(record.id)
    if definition.name == "hs_lastmodifieddate":
        return lambda _, state: _milliseconds(state.modified_at)
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
        return text if instant is None else _milliseconds(instant)
    # Texts are indexed in lower case, enumerations as they are.
    return text.lower() if definition.type == "string" else text


def _operand(definition: Property, one: Mapping[str, object], name: str) -> Key:
    raw = one.get(name)
    if raw is None:
        raise bad_request(f"{name} is missing", "MISSING_VALUE", about=definition.name)
    text = str(raw)
    instant = parsed_instant(text) if definition.type in ("date", "datetime") else None
    key = _key(definition, text) if instant is None else _milliseconds(instant)
    if definition.type in ("number", "date", "datetime") and isinstance(key, str):
        code = "INVALID_INTEGER" if definition.type == "number" else "INVALID_LONG"
        raise bad_request(f"{text} was not valid", code, about=definition.name)
    return key


def _milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MILLISECOND


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

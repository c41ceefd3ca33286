"""The search endpoint: what it accepts, what it finds, in which order ("Search the CRM" guide).

The limits of the guide: 5 filter groups of 6 filters, 18 in all; one sort; 200 results a page;
10,000 results a query. Records with equal sort values come in no promised order, here in a
random one. Names of unknown properties are refused, unlike on reads.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import TypeAlias

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
TEXT_SEARCHED = ("name", "domain", "website", "dealname", "description")

Key: TypeAlias = Decimal | str | None
"""A property value as the index compares it; None: the property is unknown for the record."""

Found: TypeAlias = tuple[Record, State]
Test: TypeAlias = Callable[[Record, State], bool]


@dataclass(frozen=True, slots=True)
class Query:
    """A search request that keeps the rules."""

    groups: Sequence[Sequence[Test]]
    sort: tuple[Callable[[Record, State], Key], bool] | None
    """Key and whether descending."""
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
    # Ties have no promised order: shuffle, then sort stably.
    portal.random.shuffle(found)
    if query.sort is not None:
        key, descending = query.sort
        found = _sorted(found, key, descending=descending)
    return len(found), found[query.after : query.after + query.limit]


def _matches(record: Record, state: State, query: Query) -> bool:
    if query.text and not any(
        query.text in str(state.fields.get(name) or "").lower() for name in TEXT_SEARCHED
    ):
        return False
    if not query.groups:
        return True
    return any(all(test(record, state) for test in group) for group in query.groups)


def _sorted(
    found: Sequence[Found], key: Callable[[Record, State], Key], *, descending: bool
) -> list[Found]:
    keyed = [(key(record, state), (record, state)) for record, state in found]
    numbers = sorted(
        ((k, it) for k, it in keyed if isinstance(k, Decimal)),
        key=lambda pair: pair[0],
        reverse=descending,
    )
    texts = sorted(
        ((k, it) for k, it in keyed if isinstance(k, str)),
        key=lambda pair: pair[0],
        reverse=descending,
    )
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
    operator = str(one.get("operator"))
    if name.startswith("associations."):
        return _association_test(portal, name, operator, one)
    definition = _known(portal, object_type, name)
    key = _key_of(portal, definition)
    if operator == "HAS_PROPERTY":
        return lambda record, state: key(record, state) is not None
    if operator == "NOT_HAS_PROPERTY":
        return lambda record, state: key(record, state) is None
    if operator in ("IN", "NOT_IN"):
        values = _values(definition, one)
        inside = operator == "IN"
        return lambda record, state: (key(record, state) in values) is inside
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        pattern = str(one.get("value") or "").lower()
        contains = operator == "CONTAINS_TOKEN"
        return lambda record, state: _has_token(key(record, state), pattern) is contains
    if operator == "BETWEEN":
        low, high = _operand(definition, one, "value"), _operand(definition, one, "highValue")
        return lambda record, state: (
            _compare(key(record, state), low, "GTE") and _compare(key(record, state), high, "LTE")
        )
    if operator == "NEQ":
        unwanted = _operand(definition, one, "value")
        return lambda record, state: key(record, state) != unwanted
    if operator in _COMPARISONS:
        operand = _operand(definition, one, "value")
        return lambda record, state: _compare(key(record, state), operand, operator)
    raise bad_request(f"operator {operator} is not known", "INVALID_OPERATOR", about=name)


_COMPARISONS: Mapping[str, Callable[[int], bool]] = {
    "EQ": lambda sign: sign == 0,
    "LT": lambda sign: sign < 0,
    "LTE": lambda sign: sign <= 0,
    "GT": lambda sign: sign > 0,
    "GTE": lambda sign: sign >= 0,
}


def _compare(left: Key, right: Key, operator: str) -> bool:
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return _COMPARISONS[operator]((left > right) - (left < right))
    if isinstance(left, str) and isinstance(right, str):
        return _COMPARISONS[operator]((left > right) - (left < right))
    return False


def _has_token(value: Key, pattern: str) -> bool:
    tokens = str(value or "").lower().split()
    return any(fnmatch.fnmatchcase(token, pattern) for token in tokens)


def _association_test(portal: Portal, name: str, operator: str, one: Mapping[str, object]) -> Test:
    to_type = TYPE_NAMES.get(name.removeprefix("associations."))
    if to_type is None:
        raise _unknown_property(name)
    raw = one.get("values") if operator == "IN" else [one.get("value")]
    wanted = {str(value) for value in _list(raw or [], "values")}
    if operator not in ("EQ", "IN"):
        raise bad_request(f"operator {operator} does not fit {name}", "INVALID_OPERATOR")
    return lambda record, _: not wanted.isdisjoint(portal.linked(record, to_type))


def _sort(
    portal: Portal, object_type: str, raw: object
) -> tuple[Callable[[Record, State], Key], bool] | None:
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
    return _key_of(portal, definition), direction == "DESCENDING"


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
        return lambda record, _: Decimal(record.id)
    if definition.name == "hs_lastmodifieddate":
        return lambda _, state: Decimal(int(state.modified_at.timestamp() * 1000 + 0.5))
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
        return text if instant is None else Decimal(int(instant.timestamp() * 1000 + 0.5))
    # Texts are indexed in lower case, enumerations as they are.
    return text.lower() if definition.type == "string" else text


def _operand(definition: Property, one: Mapping[str, object], name: str) -> Key:
    raw = one.get(name)
    if raw is None:
        raise bad_request(f"{name} is missing", "MISSING_VALUE", about=definition.name)
    text = str(raw)
    if definition.type in ("date", "datetime") and parsed_instant(text) is not None:
        instant = parsed_instant(text)
        return Decimal(int(instant.timestamp() * 1000 + 0.5)) if instant else None
    key = _key(definition, text)
    if definition.type != "string" and definition.type in ("number", "date", "datetime"):
        if not isinstance(key, Decimal):
            code = "INVALID_INTEGER" if definition.type == "number" else "INVALID_LONG"
            raise bad_request(f"{text} was not valid", code, about=definition.name)
        return key
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

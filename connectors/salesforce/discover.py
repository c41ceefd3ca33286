"""What an org holds, for people who write a mapping: objects, fields, fill rates, stages.

Pages: REST API Developer Guide, "Describe Global", "Record Count"; only what the connected user
may read is shown. Fields are judged by a bounded sample of the newest records, and a sample shows
the form of a value, never the value of a person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from connectors.base import DiscoveredField, DiscoveredObject
from connectors.errors import CrmUnavailable, MisconfiguredConnection, RequestRefused
from connectors.salesforce.client import LONGEST_URI, Json, SalesforceClient
from connectors.salesforce.schema import ObjectShape, OrgSchema
from store.canonical import Stage

SAMPLE: Final = 200
"""Records looked at."""
MOST_VALUES: Final = 50

_COUNTED_AT_ONCE: Final = 100
_COMPOUND: Final = frozenset({"address", "location"})
_UNSAMPLED: Final = frozenset({*_COMPOUND, "base64", "anyType", "complexvalue"})
_PLAIN: Final = frozenset({"boolean", "picklist", "multipicklist", "currency_code"})
"""Types whose values are the org's own words, not a person's."""
_NUMERIC: Final = frozenset({"int", "long", "double", "currency", "percent"})
_TIMES: Final = frozenset({"date", "datetime", "time"})
_LONGEST_SAMPLE: Final = 30
_MACHINERY: Final = re.compile(r"(Share|Feed|History|ChangeEvent|Tag|__Tag|__mdt|__e|__b|__x)\Z")
"""Endings of objects that stand beside another one."""


class Discovery:
    """Looks around in one org.

    Args:
        client: What talks to the org.
        streams: Salesforce's object -> the canonical stream it is read as.
        stages: The stages of an object's records, where it has any.
    """

    def __init__(
        self,
        client: SalesforceClient,
        streams: Mapping[str, str],
        stages: Callable[[str], Sequence[Stage]],
    ) -> None:
        self._client = client
        self._schema = OrgSchema(client)
        self._streams = {name.lower(): stream for name, stream in streams.items()}
        self._stages = stages

    def objects(self) -> list[DiscoveredObject]:
        """Every readable object: those that are read as streams first, then the own ones."""
        answer = self._client.get("sobjects")
        listed = answer.get("sobjects")
        found = [
            DiscoveredObject(
                name=str(each["name"]),
                label=str(each.get("label") or each["name"]),
                stream=self._streams.get(str(each["name"]).lower()),
            )
            for each in (listed if isinstance(listed, list) else ())
            if isinstance(each, Mapping) and self._is_worth_showing(each)
        ]
        found.sort(key=lambda one: (one.stream is None, not one.name.endswith("__c"), one.name))
        counts = self._counts([one.name for one in found])
        return [replace(one, count=counts.get(one.name.lower())) for one in found]

    def discover(self, object_name: str) -> DiscoveredObject:
        """One object with its fields, fill rates, masked samples and stages.

        Raises:
            MisconfiguredConnection: there is no such object, or it is not readable.
        """
        shape = self._schema.shape(object_name)
        described = [field for field in shape.fields.values() if field["type"] not in _COMPOUND]
        rows = self._sample(shape, described)
        return DiscoveredObject(
            name=shape.name,
            label=shape.name,
            stream=self._streams.get(shape.name.lower()),
            count=self._count(shape),
            sampled=len(rows),
            fields=[_field(field, rows) for field in described],
            stages=self._stages(shape.name),
        )

    # ------------------------------------------------------------ objects

    def _is_worth_showing(self, listed: Json) -> bool:
        name = str(listed.get("name"))
        if listed.get("queryable") is not True or listed.get("deprecatedAndHidden") is True:
            return False
        return name.lower() in self._streams or not (
            _MACHINERY.search(name) or listed.get("customSetting") is True
        )

    def _counts(self, names: Sequence[str]) -> dict[str, int]:
        """About how many records there are of each object; nothing where nobody says."""
        counts: dict[str, int] = {}
        for start in range(0, len(names), _COUNTED_AT_ONCE):
            some = ",".join(names[start : start + _COUNTED_AT_ONCE])
            try:
                told = self._client.get("limits/recordCount", {"sObjects": some}).get("sObjects")
            except RequestRefused:
                return counts
            for each in told if isinstance(told, list) else ():
                if isinstance(each, Mapping) and type(each.get("count")) is int:
                    counts[str(each.get("name")).lower()] = each["count"]
        return counts

    # ------------------------------------------------------------ one object

    def _count(self, shape: ObjectShape) -> int | None:
        try:
            return self._client.query(
                f"SELECT COUNT() FROM {shape.name}",  # noqa: S608  # the name is described
                deleted_too=False,
            ).total
        except (RequestRefused, CrmUnavailable, MisconfiguredConnection):
            # Some objects want a filter, and a very large one cannot be counted in time.
            return None

    def _sample(self, shape: ObjectShape, described: Sequence[Json]) -> list[dict[str, Any]]:
        names = [
            str(field["name"])
            for field in described
            if field["type"] not in _UNSAMPLED and str(field["name"]) != "Id"
        ]
        order = next((name for name in ("SystemModstamp", "CreatedDate") if shape.has(name)), "Id")
        newest = f"FROM {shape.name} ORDER BY {order} DESC LIMIT {SAMPLE}"
        rows: dict[str, dict[str, Any]] = {}
        for number, columns in enumerate(self._column_groups(names, newest)):
            condition = newest
            if number:
                listed = ",".join(f"'{row_id}'" for row_id in rows)
                condition = f"FROM {shape.name} WHERE Id IN ({listed})"
            try:
                found = self._rows(f"SELECT {','.join(['Id', *columns])} {condition}")
            except (RequestRefused, CrmUnavailable, MisconfiguredConnection):
                return list(rows.values())
            for row in found:
                rows.setdefault(str(row["Id"]), {}).update(row)
            if not rows:
                break
        return list(rows.values())

    def _column_groups(self, names: Sequence[str], condition: str) -> Iterator[list[str]]:
        """The columns in as few queries as their request lines allow."""
        left = [*names]
        room = LONGEST_URI - self._client.uri_bytes(condition) - SAMPLE * 27
        yielded = False
        while left:
            group: list[str] = []
            length = 0
            while left and length + len(left[0]) + 3 < room:
                length += len(left[0]) + 3
                group.append(left.pop(0))
            yield group
            yielded = True
        if not yielded:
            yield []

    def _rows(self, soql: str) -> list[Json]:
        answer = self._client.query(soql, deleted_too=False)
        rows = [*answer.records]
        while answer.next_url is not None and len(rows) < SAMPLE:
            answer = self._client.next_page(answer.next_url)
            rows += answer.records
        return rows[:SAMPLE]


def _field(described: Json, rows: Sequence[Mapping[str, Any]]) -> DiscoveredField:
    name, kind = str(described["name"]), str(described["type"])
    is_sampled = kind not in _UNSAMPLED and bool(rows)
    values = [row[name] for row in rows if row.get(name) is not None]
    return DiscoveredField(
        name=name,
        label=str(described.get("label") or name),
        type=kind,
        is_custom=described.get("custom") is True or name.endswith("__c"),
        is_calculated=described.get("calculated") is True,
        filled=len(values) if is_sampled else None,
        sample=masked(kind, values[0]) if values else None,
        values=_options(described),
    )


def _options(described: Json) -> tuple[str, ...]:
    options = described.get("picklistValues")
    return tuple(
        str(option.get("value"))
        for option in (options if isinstance(options, list) else ())
        if isinstance(option, Mapping) and option.get("active") is not False
    )[:MOST_VALUES]


def masked(kind: str, value: object) -> str:
    """The form of a value: enough to recognise it, too little to identify a person."""
    text = str(value)
    if kind in _PLAIN:
        return text
    if kind in {"reference", "id"}:
        return f"{text[:3]}..."
    if kind in _NUMERIC or kind in _TIMES:
        # Its size and form, not its digits: they may be somebody's income or birthday.
        digits = 2 if kind in _TIMES else 1
        return text[:digits] + re.sub(r"\d", "x", text[digits:_LONGEST_SAMPLE])
    if kind == "email":
        return f"{text[:1]}...@...{text[text.rfind('.') :]}" if "." in text else "...@..."
    return text if len(text) == 1 else f"{text[:1]}... ({len(text):,} characters)"

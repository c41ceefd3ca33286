"""What a portal holds, for people who write a mapping: objects, properties, fill rates, stages.

https://developers.hubspot.com/docs/guides/crm/understanding-the-crm
Only what the token may read is shown. Properties are judged by a bounded sample of the newest
records, and a sample shows the form of a value, never the value of a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from connectors.base import DiscoveredField, DiscoveredObject
from connectors.errors import (
    MalformedAnswer,
    MisconfiguredConnection,
    PermissionMissing,
    RequestRefused,
)
from connectors.hubspot.client import Answer, HubSpotClient, Json
from connectors.hubspot.fields import RECORD_ID, Property, properties_of
from connectors.hubspot.mapping import pipelines_of
from connectors.hubspot.reading import chunks, fetch
from store.canonical import Stage

SAMPLE: Final = 100
"""Records looked at: one batch read."""
MOST_VALUES: Final = 50

STANDARD: Final[Mapping[str, str]] = {
    "companies": "Companies",
    "contacts": "Contacts",
    "deals": "Deals",
    "tickets": "Tickets",
    "line_items": "Line items",
    "products": "Products",
    "orders": "Orders",
    "subscriptions": "Subscriptions",
    "invoices": "Invoices",
    "feedback_submissions": "Feedback submissions",
}

_READ_AT_ONCE: Final = 250
"""Properties a request: a portal may have a thousand."""
_PLAIN: Final = frozenset({"enumeration", "bool"})
"""Types whose values are the portal's own words, not a person's."""
_TIMES: Final = frozenset({"date", "datetime"})
_LONGEST_SAMPLE: Final = 30
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_NOT_THERE: Final = (PermissionMissing, RequestRefused)


class Discovery:
    """Looks around in one portal.

    Args:
        client: What talks to the portal.
        streams: Object -> the canonical stream that its records are read as.
    """

    def __init__(self, client: HubSpotClient, streams: Mapping[str, str]) -> None:
        self._client = client
        self._streams = streams

    def objects(self) -> list[DiscoveredObject]:
        """Every object that the token may read, with how many records it has."""
        found = [self._counted(name, label) for name, label in self._named()]
        return [one for one in found if one is not None]

    def discover(self, object_name: str) -> DiscoveredObject:
        """One object with its properties, fill rates, masked samples and stages.

        Raises:
            MisconfiguredConnection: there is no such object, or it is not readable.
        """
        try:
            described = properties_of(self._client.properties(object_name).results)
            newest = self._newest(object_name)
        except _NOT_THERE as error:
            raise MisconfiguredConnection(
                self._client.connection,
                f'The object "{object_name}" cannot be looked at: {error.message}',
            ) from error
        ids = [str(row["id"]) for row in newest.results]
        rows = self._values(object_name, ids, list(described))
        return DiscoveredObject(
            name=object_name,
            label=dict(self._named()).get(object_name, object_name),
            stream=self._streams.get(object_name),
            count=_total(newest),
            sampled=len(rows),
            fields=[_field(one, rows) for one in described.values()],
            stages=self._stages(object_name),
        )

    def _named(self) -> Iterator[tuple[str, str]]:
        yield from STANDARD.items()
        try:
            schemas = self._client.schemas().results
        except _NOT_THERE:
            return
        for schema in schemas:
            name = schema.get("fullyQualifiedName") or schema.get("objectTypeId")
            labels = schema.get("labels")
            plural = labels.get("plural") if isinstance(labels, Mapping) else None
            if name:
                yield str(name), str(plural or schema.get("name") or name)

    def _counted(self, name: str, label: str) -> DiscoveredObject | None:
        try:
            count = _total(self._newest(name, 1))
        except _NOT_THERE:
            return None
        return DiscoveredObject(name=name, label=label, stream=self._streams.get(name), count=count)

    def _newest(self, object_name: str, limit: int = SAMPLE) -> Answer:
        """The newest records' ids; the oldest ones of an object that cannot be searched."""
        request = {
            "filterGroups": [],
            "sorts": [{"propertyName": RECORD_ID, "direction": "DESCENDING"}],
            "properties": [RECORD_ID],
            "limit": limit,
        }
        try:
            return self._client.search(object_name, request, _is_counted)
        except (RequestRefused, MalformedAnswer):
            return self._client.page(object_name, after=None, limit=limit)

    def _values(
        self, object_name: str, ids: Sequence[str], names: Sequence[str]
    ) -> list[dict[str, object]]:
        rows: dict[str, dict[str, object]] = {}
        for some in chunks(names, _READ_AT_ONCE):
            for record_id, row in fetch(
                self._client, object_name, ids, properties=some
            ).rows.items():
                rows.setdefault(record_id, {}).update(row.get("properties") or {})
        return list(rows.values())

    def _stages(self, object_name: str) -> list[Stage]:
        try:
            answer = self._client.pipelines(object_name)
        except _NOT_THERE:
            return []
        return list(pipelines_of(self._client.connection, answer.results).stages.values())


def _is_counted(answer: Answer) -> bool:
    return _total(answer) is not None


def _total(answer: Answer) -> int | None:
    total = answer.content.get("total")
    return total if isinstance(total, int) else None


def _field(described: Property, rows: Sequence[Json]) -> DiscoveredField:
    values = [
        text for row in rows if isinstance(text := row.get(described.name), str) and text != ""
    ]
    return DiscoveredField(
        name=described.name,
        label=described.label,
        type=described.type,
        is_custom=described.is_custom,
        is_calculated=described.is_calculated,
        filled=len(values) if rows else None,
        sample=masked(described.type, values[0]) if values else None,
        values=tuple(value for value, _ in described.options[:MOST_VALUES]),
    )


def masked(kind: str, text: str) -> str:
    """The form of a value: enough to recognise it, too little to identify a person."""
    if kind in _PLAIN:
        return text[:_LONGEST_SAMPLE]
    if kind == "number" or kind in _TIMES:
        # Its size and form, not its digits: they may be somebody's income or birthday.
        shown = 2 if kind in _TIMES else 1
        return text[:shown] + re.sub(r"\d", "x", text[shown:_LONGEST_SAMPLE])
    if _EMAIL.fullmatch(text):
        return f"{text[0]}...@...{text[text.rfind('.') :]}" if "." in text else f"{text[0]}...@..."
    return text if len(text) == 1 else f"{text[0]}... ({len(text):,} characters)"

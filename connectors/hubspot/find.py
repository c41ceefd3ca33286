"""The records of any object by what one of their properties holds.

For objects that are no stream: a custom object of the portal's own that names its company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from connectors.errors import MisconfiguredConnection
from connectors.hubspot.client import READ_LIMIT, HubSpotClient
from connectors.hubspot.fields import Property


def find(
    client: HubSpotClient,
    object_name: str,
    name: str,
    describe: Callable[[str], Mapping[str, Property]],
) -> Iterator[Sequence[tuple[str, str]]]:
    """(record id, value as text) of all live records in which the property is not empty.

    Raises:
        MisconfiguredConnection: the portal has no such property.
    """
    if name not in describe(object_name):
        raise MisconfiguredConnection(
            client.connection, f'HubSpot has no property "{name}" of {object_name}.'
        )
    after: str | None = None
    while True:
        answer = client.page(object_name, after=after, limit=READ_LIMIT, properties=[name])
        found: list[tuple[str, str]] = []
        for row in answer.results:
            texts = row.get("properties")
            value = texts.get(name) if isinstance(texts, Mapping) else None
            if value not in (None, ""):
                found.append((str(row["id"]), str(value)))
        yield found
        after = answer.after
        if after is None:
            return

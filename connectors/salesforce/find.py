"""The records of any object by what one of their fields holds.

For objects that are no stream: a scorecard of the company's own that names its account.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from connectors.errors import MisconfiguredConnection
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.ids import long_id
from connectors.salesforce.schema import MISSING_REMEDY, OrgSchema


def find(
    client: SalesforceClient, schema: OrgSchema, object_name: str, field_name: str
) -> Iterator[Sequence[tuple[str, str]]]:
    """(record id, value as text) of all live records in which the field is not empty.

    Raises:
        MisconfiguredConnection: the connected user sees no such object or field.
    """
    shape = schema.shape(object_name)
    described = shape.field(field_name)
    if described is None:
        raise MisconfiguredConnection(
            client.connection,
            f"{shape.name}.{field_name} does not exist or is not visible to the connected user."
            f" {MISSING_REMEDY}",
        )
    name = str(described["name"])
    is_link = described.get("type") in {"reference", "id"}
    # Long texts cannot be filtered: their empty values are left out here.
    where = f" WHERE {name} != null" if described.get("filterable") is not False else ""
    soql = f"SELECT Id, {name} FROM {shape.name}{where}"  # noqa: S608 - both names are described
    answer = client.query(soql, deleted_too=False)
    while True:
        yield [
            (long_id(str(row["Id"])), long_id(str(row[name])) if is_link else _text(row[name]))
            for row in answer.records
            if row.get(name) not in (None, "")
        ]
        if answer.next_url is None:
            return
        answer = client.next_page(answer.next_url)


def _text(raw: Any) -> str:  # a JSON scalar
    """A number without a fraction is written without one: 12.0 names what "12" names."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        return str(raw)
    number = Decimal(str(raw))
    return f"{number.quantize(Decimal(1)):f}" if number == number.to_integral() else f"{number:f}"

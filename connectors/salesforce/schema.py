"""What the connected user sees of the org's objects, asked once per run.

Page: REST API Developer Guide, "sObject Describe". It lists only what field-level security lets
this user read, so a field that is not here may exist all the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from connectors.errors import MisconfiguredConnection
from connectors.fieldmap import NativeField
from connectors.salesforce.client import SalesforceClient
from connectors.salesforce.faults import NotFound

MISSING_REMEDY: Final = (
    "Check the spelling of the API name, and give the connected user read access to the field"
    " (field-level security, by permission set)."
)

KNOWN_SECONDS: Final = 3600.0
"""How long a parent's description is used by those that point to it."""
_COMPOUND: Final = frozenset({"address", "location"})
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "reference": "ref",
        "int": "integer",
        "long": "integer",
        "double": "number",
        "currency": "money",
        "percent": "percent",
        "date": "date",
        "datetime": "datetime",
        "boolean": "boolean",
    }
)


class ObjectAbsent(MisconfiguredConnection):
    """The connected user sees no such object: misspelt, not licensed, or not permitted."""


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """One described object; names are found in any case, as SOQL does."""

    name: str
    fields: Mapping[str, Mapping[str, Any]]
    """By lower-case name."""
    is_replicateable: bool
    server_time: datetime

    def field(self, name: str) -> Mapping[str, Any] | None:
        """The description of a field, or None where this user sees none."""
        return self.fields.get(name.lower())

    def has(self, name: str) -> bool:
        """This user sees the field."""
        return name.lower() in self.fields

    def choices(self, name: str) -> frozenset[str]:
        """The active values of a choice field."""
        listed = (self.field(name) or {}).get("picklistValues") or ()
        return frozenset(str(each.get("value")) for each in listed)

    def relation(self, name: str) -> Mapping[str, Any] | None:
        """The reference field behind a relationship name such as ``Account``."""
        wanted = name.lower()
        for field in self.fields.values():
            if str(field.get("relationshipName") or "").lower() == wanted:
                return field
        return None


class KnownShapes:
    """Lately described objects, for the parents of what is read: each stream asks for its own.

    A parent's field that becomes hidden makes the query fail, and one that appears is not found
    here: both are asked for anew.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ObjectShape, float]] = {}

    def get(self, object_name: str) -> ObjectShape | None:
        """What is known of an object, unless it is too old."""
        shape, kept_at = self._kept.get(object_name.lower(), (None, 0.0))
        return shape if time.monotonic() - kept_at < KNOWN_SECONDS else None

    def keep(self, object_name: str, shape: ObjectShape) -> None:
        """Remember an object as it is described now."""
        self._kept[object_name.lower()] = shape, time.monotonic()


class OrgSchema:
    """Described objects of one run; make a new one for the next run.

    Args:
        client: The org.
        known: Where parents may be known from.
    """

    def __init__(self, client: SalesforceClient, known: KnownShapes | None = None) -> None:
        self._client = client
        self._known = known or KnownShapes()
        self._shapes: dict[str, ObjectShape] = {}
        self._made = time.monotonic()
        self.described = 0
        """How many objects were asked for."""

    @property
    def age_seconds(self) -> float:
        """How old the oldest description may be."""
        return time.monotonic() - self._made

    def shape(self, object_name: str) -> ObjectShape:
        """Describe an object, once.

        Raises:
            ObjectAbsent: this user sees no such object.
        """
        key = object_name.lower()
        if key not in self._shapes:
            self._shapes[key] = self._described(object_name)
            self._known.keep(object_name, self._shapes[key])
        return self._shapes[key]

    def look_up(self, object_name: str, source: str) -> NativeField | None:
        """A field of an object, or of its parents by a path (``Account.Owner.Name``).

        Raises:
            MisconfiguredConnection: the field is a compound, which has to be read by its parts.
        """
        found = self._looked_up(object_name, source, parents_anew=False)
        if found is None and "." in source:
            found = self._looked_up(object_name, source, parents_anew=True)
        return found

    def _looked_up(
        self, object_name: str, source: str, *, parents_anew: bool
    ) -> NativeField | None:
        *relations, name = source.split(".")
        shapes = [self.shape(object_name)]
        spelling: list[str] = []
        for relation in relations:
            field = next((found for shape in shapes if (found := shape.relation(relation))), None)
            if field is None:
                return None
            spelling.append(str(field["relationshipName"]))
            shapes = self._parents(field, anew=parents_anew)
        described = next((found for shape in shapes if (found := shape.field(name))), None)
        if described is None:
            return None
        return self._native(object_name, ".".join([*spelling, str(described["name"])]), described)

    def _parents(self, field: Mapping[str, Any], *, anew: bool) -> list[ObjectShape]:
        shapes: list[ObjectShape] = []
        for target in field.get("referenceTo") or ():
            # A parent that is not visible has no visible fields.
            known = None if anew or str(target).lower() in self._shapes else self._known.get(target)
            with suppress(ObjectAbsent):
                shapes.append(known or self.shape(str(target)))
        return shapes

    def _native(self, object_name: str, path: str, described: Mapping[str, Any]) -> NativeField:
        kind = str(described.get("type"))
        if kind in _COMPOUND:
            raise MisconfiguredConnection(
                self._client.connection,
                f"{object_name}.{path} is a compound of several fields."
                " Map one of its parts, such as BillingCity of BillingAddress.",
            )
        return NativeField(path, _TYPES.get(kind, "text"), bool(described.get("calculated")))

    def _described(self, object_name: str) -> ObjectShape:
        self.described += 1
        try:
            answer, server_time = self._client.describe(object_name)
        except NotFound as error:
            raise ObjectAbsent(
                self._client.connection,
                f"The object {object_name} does not exist or the connected user has no access to"
                " it. Check the spelling of its API name, and give the user read access to the"
                " object by a permission set.",
            ) from error
        return ObjectShape(
            name=str(answer.get("name") or object_name),
            fields=MappingProxyType(
                {str(field["name"]).lower(): field for field in answer["fields"]}
            ),
            is_replicateable=answer.get("replicateable") is True,
            server_time=server_time,
        )

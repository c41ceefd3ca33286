"""EntityDefinition: one row for each object that the integration user sees.

Page: Tooling API Reference, "EntityDefinition".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sandbox.org import Record, State, Value

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

_ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)


def entity_definitions(org: SalesforceOrg) -> Mapping[str, Record]:
    """The rows, made anew because objects come and go."""
    rows: dict[str, Record] = {}
    for spec in org.schema.values():
        if not org.access.sees_object(spec):
            continue
        fields: dict[str, Value] = {
            "DurableId": spec.name,
            "QualifiedApiName": spec.name,
            "DeveloperName": spec.name.removesuffix("__c"),
            "Label": spec.label,
            "PluralLabel": spec.label,
            "KeyPrefix": spec.prefix,
            "IsQueryable": True,
            "IsReplicateable": spec.replicateable,
            "IsCustomizable": spec.custom_fields,
            "IsCustomSetting": False,
        }
        state = State(fields, _ALWAYS, "people")
        rows[spec.name] = Record("EntityDefinition", spec.name, _ALWAYS, "people", state)
    return rows

"""Creating the properties that hold KPI values.

https://developers.hubspot.com/docs/api-reference/crm-properties-v3/guide
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from connectors.base import NewField, SetupResult
from connectors.errors import PermissionMissing
from connectors.hubspot.client import HubSpotClient
from connectors.hubspot.faults import CONFLICT, Refused
from connectors.hubspot.fields import GROUP, Property, by_hand, definition, is_same_type


def create(
    client: HubSpotClient,
    object_name: str,
    fields: Sequence[NewField],
    properties: Callable[[], Mapping[str, Property]],
    *,
    dry_run: bool,
) -> list[SetupResult]:
    """Create the properties that are missing, in a group of their own; idempotent."""
    existing = properties()
    results: list[SetupResult] = []
    group_is_there = False
    for wanted in fields:
        if wanted.name in existing:
            results.append(_compared(wanted, existing[wanted.name]))
            continue
        try:
            content = definition(wanted)
        except ValueError as fault:
            results.append(_result(wanted, "conflict", f"HubSpot cannot have it: {fault}."))
            continue
        if dry_run:
            results.append(_result(wanted, "would_create", f"{content['type']} property"))
            continue
        try:
            if not group_is_there:
                _unless_present(lambda: client.create_group(object_name, GROUP))
                group_is_there = True
            client.create_property(object_name, content)
            results.append(_result(wanted, "created"))
        except PermissionMissing as missing:
            note = f"{missing.message} {by_hand(object_name, wanted)}"
            results.append(_result(wanted, "manual", note))
        except Refused as refusal:
            if refusal.status != CONFLICT:
                results.append(_result(wanted, "conflict", refusal.message))
                continue
            # Somebody was faster; an archived one of the same name is in the way, too.
            now = properties().get(wanted.name)
            results.append(
                _compared(wanted, now)
                if now
                else _result(wanted, "conflict", f"{refusal.message} Restore or rename it.")
            )
    return results


def _compared(wanted: NewField, existing: Property) -> SetupResult:
    if existing.is_read_only:
        return _result(wanted, "conflict", "It exists and is read-only. Choose another name.")
    if is_same_type(wanted, existing):
        return _result(wanted, "present")
    return _result(
        wanted,
        "conflict",
        f"It exists with type {existing.type}, which cannot hold the KPI. Choose another name,"
        " or delete it in HubSpot.",
    )


def _unless_present(create_it: Callable[[], None]) -> None:
    try:
        create_it()
    except Refused as refusal:
        if refusal.status != CONFLICT:
            raise


def _result(wanted: NewField, outcome: str, note: str = "") -> SetupResult:
    return SetupResult(field=wanted.name, outcome=outcome, note=note)

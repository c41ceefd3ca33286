"""The rules by which records of several connections are one: what they name must be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from config.errors import Finding, Path, did_you_mean, quoted
from config.interpolate import Value

Values: TypeAlias = Mapping[str, Value]

MATCHED: Final = ("accounts", "contacts", "deals")
KINDS: Final = ("same", "domain", "email", "key")
NATIVE_IDS: Final = frozenset({"id", "hs_object_id"})
"""What the CRMs call a record's own id, in small letters."""

DEFAULT_STREAMS: Final = frozenset({"accounts", "deals"})

CANONICAL: Final[Mapping[str, frozenset[str]]] = {
    "accounts": frozenset(
        {"name", "domain", "website", "type", "industry", "segment", "region", "country"}
    ),
    "contacts": frozenset({"name", "email", "source", "lifecycle_stage"}),
    "deals": frozenset({"name", "type", "source", "product", "segment", "region"}),
}
"""Fields that every connection maps by itself, as far as they can show who a record is."""

TAKEN_FROM_COPIES: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": (
        *("name", "website", "domain", "owner", "parent", "type", "industry", "segment"),
        *("region", "country", "employees", "annual_revenue", "contract_end"),
    ),
    "contacts": ("name", "email", "owner", "source", "lifecycle_stage", "nps_score"),
    "deals": (
        *("amount", "product", "source", "type", "kind", "region", "segment", "lost_reason"),
    ),
}
"""Canonical fields that may come from a copy instead, beside all own ones."""

NEVER_TAKEN: Final[Mapping[str, frozenset[str]]] = {
    "accounts": frozenset({"currency"}),
    "contacts": frozenset({"account"}),
    "deals": frozenset(
        {
            *("name", "account", "owner", "pipeline", "stage", "is_closed", "is_won", "currency"),
            *("close_date", "closed_at", "probability", "campaign", "forecast_category"),
            "last_activity_at",
        }
    ),
}
"""Canonical fields that stay those of the preferred record, whatever is mapped to them."""

Side: TypeAlias = tuple[str, str]
"""A connection and a field."""


def sides_of(same: str) -> tuple[Side, Side] | None:
    """``hubspot.salesforceaccountid = salesforce.Id`` in its parts; None: it is not so written."""
    halves = [half.strip().partition(".") for half in same.split("=")]
    if len(halves) != 2 or not all(name and field for name, _, field in halves):  # noqa: PLR2004 - sides
        return None
    (one, _, first), (other, _, second) = halves
    return (one, first), (other, second)


def identity_makes_sense(values: Values) -> Iterator[Finding]:
    """What `identity` names exists, and each rule says one thing."""
    connections = _table(values, "connections")
    for stream in MATCHED:
        section, place = _table(values, "identity", stream), ("identity", stream)
        prefer = section.get("prefer")
        if isinstance(prefer, str) and connections and prefer not in connections:
            yield _no_connection((*place, "prefer"), connections, prefer)
        for name, connection in _table(section, "fields").items():
            path = (*place, "fields", name)
            yield from _preferred(connections, stream, path, name, connection)
        rules = section.get("match")
        for number, rule in enumerate(rules if isinstance(rules, tuple) else ()):
            if isinstance(rule, Mapping):
                yield from _rule(connections, stream, (*place, "match", number), rule)


def _preferred(
    connections: Values, stream: str, path: Path, name: str, connection: Value
) -> Iterator[Finding]:
    """Whose value of a field is asked for first: the connection must have one."""
    known = TAKEN_FROM_COPIES[stream]
    mapping = [
        one for one in connections if name in _table(connections, one, "streams", stream, "fields")
    ]
    if name in NEVER_TAKEN[stream] or (name not in known and connections and not mapping):
        yield Finding(
            path,
            f"{quoted(name)} of {stream} always comes from the preferred record."
            if name in NEVER_TAKEN[stream]
            else f"{quoted(name)} is no field of {stream}.",
            f"It may be one of: {', '.join(known)}; or a field of your own that is mapped.",
            at_key=True,
        )
    if not isinstance(connection, str) or not connections:
        return
    if connection not in connections:
        yield _no_connection(path, connections, connection)
    elif stream not in _streams(connections, connection):
        yield _does_not_read(path, connection, stream)
    elif name not in known and mapping and connection not in mapping:
        yield Finding(
            path,
            f"The connection {quoted(connection)} does not map {quoted(name)} of {stream}.",
            f"Map it: connections.{connection}.streams.{stream}.fields: {{{name}: FIELD}}.",
        )


def _no_connection(path: Path, connections: Values, name: str) -> Finding:
    return Finding(
        path, f"There is no connection {quoted(name)}.", did_you_mean(name, tuple(connections))
    )


def _does_not_read(path: Path, connection: str, stream: str) -> Finding:
    return Finding(
        path,
        f"The connection {quoted(connection)} does not read {stream}.",
        f"Add it: connections.{connection}.streams.{stream}: {{}}.",
    )


def _rule(connections: Values, stream: str, path: Path, rule: Values) -> Iterator[Finding]:
    kinds = [kind for kind in KINDS if rule.get(kind) is not None]
    if len(kinds) != 1:
        yield Finding(
            path,
            "A rule says one of same, domain, email and key.",
            "Write several rules, one below the other.",
        )
        return
    said = rule[kinds[0]]
    if not isinstance(said, str):
        return
    if kinds[0] == "same":
        yield from _same(connections, stream, (*path, "same"), said)
    elif said not in CANONICAL[stream]:
        mapping = [
            name
            for name, connection in connections.items()
            if said in _table(connection, "streams", stream, "fields")
        ]
        if connections and len(mapping) < 2:  # noqa: PLR2004 - one record of each of two
            who = f"{mapping[0]} alone maps" if mapping else "No connection maps"
            yield Finding(
                (*path, kinds[0]),
                f"{who} {quoted(said)} for {stream}: nothing could be compared.",
                f"Map it: connections.NAME.streams.{stream}.fields: {{{said}: FIELD}}.",
            )


def _same(connections: Values, stream: str, path: Path, said: str) -> Iterator[Finding]:
    sides = sides_of(said)
    if sides is None:
        yield Finding(
            path,
            "{value} does not name two fields.",
            "Write CONNECTION.FIELD = CONNECTION.FIELD, such as "
            "hubspot.salesforceaccountid = salesforce.Id.",
        )
        return
    names = [connection for connection, _ in sides]
    for name in names:
        if connections and name not in connections:
            yield _no_connection(path, connections, name)
        elif connections and stream not in _streams(connections, name):
            yield _does_not_read(path, name, stream)
    if names[0] == names[1]:
        yield Finding(
            path,
            "Both sides name one connection.",
            "Records are matched across connections; duplicates within one are merged there.",
        )


def _streams(connections: Values, name: str) -> frozenset[str]:
    streams = _table(connections, name).get("streams")
    return DEFAULT_STREAMS if streams is None else frozenset(_table(streams))


def _table(values: Value, *path: str) -> Values:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}

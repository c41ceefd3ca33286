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

TAKEN_FROM_COPIES: Final = (
    *("amount", "product", "source", "type", "kind", "region", "segment", "lost_reason"),
)
"""Fields of deals that may come from a copy instead."""

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
        named: dict[Path, Value] = {
            (*place, "prefer"): section.get("prefer"),
            **{(*place, "fields", name): one for name, one in _table(section, "fields").items()},
        }
        for path, connection in named.items():
            if isinstance(connection, str) and connections and connection not in connections:
                yield Finding(
                    path,
                    f"There is no connection {quoted(connection)}.",
                    did_you_mean(connection, tuple(connections)),
                )
        for name in _table(section, "fields"):
            if stream != "deals" or name not in TAKEN_FROM_COPIES:
                yield Finding(
                    (*place, "fields", name),
                    f"{quoted(name)} of {stream} always comes from the preferred record.",
                    f"Of deals it may be one of: {', '.join(TAKEN_FROM_COPIES)}.",
                    at_key=True,
                )
        rules = section.get("match")
        for number, rule in enumerate(rules if isinstance(rules, tuple) else ()):
            if isinstance(rule, Mapping):
                yield from _rule(connections, stream, (*place, "match", number), rule)


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
            yield Finding(
                path,
                f"There is no connection {quoted(name)}.",
                did_you_mean(name, tuple(connections)),
            )
        elif connections and stream not in _streams(connections, name):
            yield Finding(
                path,
                f"The connection {quoted(name)} does not read {stream}.",
                f"Add it: connections.{name}.streams.{stream}: {{}}.",
            )
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

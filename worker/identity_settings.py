"""From configured rules to what links records, and to the fields that must be read for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from config.connections import Stream
from config.matching import MATCHED, NATIVE_IDS, sides_of
from config.models import Config, RecordIdentity, RecordMatch
from store.canonical import RECORD_TYPES
from store.identity_evidence import compared_value
from store.identity_rules import (
    EVERY_CONNECTION,
    NATIVE_ID,
    IdentityRules,
    Kind,
    MatchRule,
    StreamRules,
)

_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {"accounts": {"website": "domain"}}
"""What people call a canonical field."""


def identity_rules(config: Config) -> IdentityRules:
    """By what records of several connections are recognised as one."""
    streams = {stream: _stream_rules(config, stream) for stream in MATCHED}
    return IdentityRules(
        {stream: rules for stream, rules in streams.items() if rules},
        owners_by_email=bool(config.identity.owners.match),
    )


def fields_for_identity(config: Config, connection: str, stream: str) -> Mapping[str, str]:
    """Native fields that only the rules need: own name -> field, to be read beside the rest."""
    if stream not in MATCHED:
        return {}
    return {
        name: field
        for rule in _section(config, stream).match
        for side, field in sides_of(rule.same or "") or ()
        if side == connection
        for name, is_new in [_held_in(config, connection, stream, field)]
        if is_new
    }


def _section(config: Config, stream: str) -> RecordIdentity:
    found: RecordIdentity = getattr(config.identity, stream)
    return found


def _stream_rules(config: Config, stream: str) -> StreamRules:
    section = _section(config, stream)
    names = list(config.connections)
    first = section.prefer if section.prefer in names else (names[0] if names else None)
    return StreamRules(
        rules=tuple(_rules(config, stream, section)),
        connections=tuple(sorted(names, key=lambda name: (name != first, names.index(name)))),
        review_below=int((section.review_below * 1000).to_integral_value()),
        preferred=tuple(
            sorted(
                (_ALIASES.get(stream, {}).get(name, name), connection)
                for name, connection in section.fields.items()
            )
        ),
        mapped=_mapped_anywhere(config, stream) - _canonical(stream),
        money=frozenset(
            name
            for connection in names
            if stream in _streams(config, connection)
            for name, source in _streams(config, connection)[stream].fields.items()
            if source.type == "money" and name not in _canonical(stream)
        ),
        currency=config.company.currency,
    )


def _rules(config: Config, stream: str, section: RecordIdentity) -> Iterator[MatchRule]:
    for match in section.match:
        kind = _kind(match)
        said = str(getattr(match, kind))
        if kind == "same":
            sides = sides_of(said) or ()
            fields = tuple(
                (name, _held_in(config, name, stream, field)[0]) for name, field in sides
            )
            is_of_salesforce = any(
                field == NATIVE_ID and config.connections[name].type == "salesforce"
                for name, field in fields
                if name in config.connections
            )
        else:
            fields, is_of_salesforce = tuple(_everywhere(config, stream, said)), False
        plain = MatchRule(kind, f"{kind} {said}", fields, has_salesforce_ids=is_of_salesforce)
        yield MatchRule(
            kind,
            plain.words,
            fields,
            ignore=frozenset(
                text
                for one in match.ignore
                for text in (one.strip().casefold(), compared_value(plain, one))
                if text is not None
            ),
            has_salesforce_ids=is_of_salesforce,
        )


def _kind(match: RecordMatch) -> Kind:
    kinds: tuple[Kind, ...] = ("same", "domain", "email", "key")
    return next(kind for kind in kinds if getattr(match, kind) is not None)


def _everywhere(config: Config, stream: str, field: str) -> Iterator[tuple[str, str]]:
    """The field of that name, in each connection that has it."""
    alias = _ALIASES.get(stream, {}).get(field, field)
    if field not in _mapped_anywhere(config, stream) and alias in _canonical(stream):
        yield EVERY_CONNECTION, alias
        return
    for connection in config.connections:
        own = _streams(config, connection).get(stream)
        if own is not None and field in own.fields:
            yield connection, field
        elif alias in _canonical(stream):
            yield connection, alias


def _held_in(config: Config, connection: str, stream: str, field: str) -> tuple[str, bool]:
    """Where a field is held: under its mapped name, or under one that is made for it (true)."""
    own = _streams(config, connection).get(stream)
    mapped = {} if own is None else own.fields
    if field in mapped or field in _canonical(stream):
        return field, False
    if field.casefold() in NATIVE_IDS:
        return NATIVE_ID, False
    for name, source in mapped.items():
        if source.source.casefold() == field.casefold():
            return name, False
    made = field.casefold().replace(".", "_")
    return (f"x_{made}" if made in _canonical(stream) else made), True


def _mapped_anywhere(config: Config, stream: str) -> frozenset[str]:
    return frozenset(
        name
        for connection in config.connections
        if stream in _streams(config, connection)
        for name in _streams(config, connection)[stream].fields
    )


def _streams(config: Config, connection: str) -> Mapping[str, Stream]:
    section = config.connections.get(connection)
    return {} if section is None else dict(section.streams.items())


def _canonical(stream: str) -> frozenset[str]:
    common = {"ref", "extra", "deleted", "merged_into", "created_at", "modified_at"}
    return frozenset(RECORD_TYPES[stream].__dataclass_fields__) - common

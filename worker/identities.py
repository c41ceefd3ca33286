"""Who is one with whom: what waits for a person, what a person decides, what comes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, select

from metrics.cells import commit_decision
from metrics.dimensions import grouping_named, key_of, values_of
from store import decisions, fallbacks, identity
from store.canonical import Company, Key, Scalar
from store.conversion import RecordMaker
from store.engine import reading, writing
from store.identity import Member
from store.identity_rules import MATCHED_STREAMS, IdentityRules, StreamRules
from store.linking import Doubt
from store.tables import RECORD_TABLES
from worker import doubts
from worker.runtime import Runtime


class Undecidable(Exception):
    """A decision that cannot be made; says why, and what can be done instead."""


@dataclass(frozen=True, slots=True)
class Question:
    """Two entities that may be one."""

    stream: str
    one: Key
    one_name: str | None
    other: Key
    other_name: str | None
    rule: str
    value: str
    score: int
    """Thousandths of certainty."""
    why: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What a decision changed."""

    stream: str
    one: Key
    other: Key
    stands_for: dict[Key, Key | None] = field(default_factory=dict)
    """Record -> for whom it stands now, where that is another one than before."""


def questions(runtime: Runtime, streams: Collection[str] = MATCHED_STREAMS) -> list[Question]:
    """Matches that wait for a person, by stream, the surest first."""
    rules = runtime.catalog.settings.identity
    found: list[Question] = []
    with reading(runtime.engine) as conn:
        for stream in MATCHED_STREAMS:
            if stream in streams:
                doubts = identity.doubts(conn, stream, rules.of(stream))
                names = _names(conn, stream, doubts)
                found += [_question(stream, rules.of(stream), one, names) for one in doubts]
    return found


def decide(
    runtime: Runtime, one: Key, other: Key, *, is_same: bool | None, stream: str | None = None
) -> Decided:
    """Remember that two records are one, or are not, and move the KPIs with it.

    Args:
        runtime: what it works with.
        one: a record, as ``CONNECTION:native id``.
        other: another one of the same stream.
        is_same: what the person says; None: nothing any more.
        stream: of the two; None: the one in which both are known.

    Raises:
        Undecidable: the records are unknown, gone or merged in their CRM, or what was said
            before contradicts it.
    """
    with writing(runtime.engine) as conn:
        place = _stream_of(conn, (one, other), stream)
        if not runtime.catalog.settings.identity.of(place):
            raise Undecidable(
                f"{place} are not matched: add identity.{place}.match to the configuration first"
            )
        if is_same is None:
            if not decisions.forget(conn, place, one, other):
                raise Undecidable(f"nobody decided about {one} and {other} so far")
        else:
            _refuse_impossible(conn, place, one, other)
            decisions.decide(conn, place, one, other, is_same=is_same)
        doubts.note_decision(conn)
        moved = commit_decision(conn, runtime.catalog, place, (one, other)).moved.get(place, {})
        if is_same is not None:
            _refuse_contradiction(conn, place, one, other, is_same=is_same)
        return Decided(place, one, other, dict(sorted(moved.items())))


def _refuse_impossible(conn: Connection, stream: str, one: Key, other: Key) -> None:
    if one == other:
        raise Undecidable("name two different records")
    table = RECORD_TABLES[stream]
    query = select(table.c.ref, table.c.deleted, table.c.merged_into).where(
        table.c.ref.in_((one, other))
    )
    for row in conn.execute(query):
        if row.merged_into in (one, other):
            raise Undecidable(
                f"{row.ref} was merged into {row.merged_into} in its CRM; what is one record "
                "there cannot be two here"
            )
        if row.deleted and row.merged_into is None:
            raise Undecidable(f"{row.ref} is deleted in its CRM")


def _refuse_contradiction(
    conn: Connection, stream: str, one: Key, other: Key, *, is_same: bool
) -> None:
    ends = [identity.stands_for(conn, stream, key) for key in (one, other)]
    if (ends[0] == ends[1]) == is_same:
        return
    if not is_same:
        raise Undecidable(
            f"{one} and {other} were merged in their CRM; what is one record there cannot be "
            "two here"
        )
    against = [
        said
        for said in decisions.every(conn, stream)
        if not said.is_same
        and {identity.stands_for(conn, stream, key) for key in (said.one, said.other)} == set(ends)
    ]
    pairs = ", ".join(f"{said.one} and {said.other}" for said in against) or "others of theirs"
    raise Undecidable(
        f"somebody said before that {pairs} are not the same; take that back first "
        "(kpisync identity forget ONE OTHER)"
    )


def _stream_of(conn: Connection, refs: Sequence[Key], stream: str | None) -> str:
    found = [
        name
        for name in MATCHED_STREAMS
        if stream in (None, name) and not _unknown(conn, name, refs)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Undecidable(f"both are known as {' and '.join(found)}: say which with --stream")
    for name in MATCHED_STREAMS:
        unknown = _unknown(conn, name, refs)
        if stream in (None, name) and len(unknown) == 1:
            raise Undecidable(
                f"there is no record {unknown[0]} among the {name}; keys are written "
                "CONNECTION:native id (kpisync dump records STREAM)"
            )
    raise Undecidable(
        f"neither {refs[0]} nor {refs[1]} is known; keys are written CONNECTION:native id "
        "(kpisync dump records STREAM)"
    )


def _unknown(conn: Connection, stream: str, refs: Sequence[Key]) -> list[Key]:
    table = RECORD_TABLES[stream]
    known = set(conn.execute(select(table.c.ref).where(table.c.ref.in_(refs))).scalars())
    return [key for key in refs if key not in known]


# ---------------------------------------------------------------- behind a group

_STREAMS: Final = {"account": "accounts", "contact": "contacts", "deal": "deals"}
"""Dimensions whose keys stand for records that several CRMs may hold."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The records that stand behind a part of a group's key."""

    dimension: str
    entity: Key
    records: list[Member]


def entity_key(conn: Connection, dimension: str, key: str) -> str:
    """The key of the group that a key belongs to: any record of a customer names the customer."""
    grouping = grouping_named(dimension)
    if not _STREAMS.keys() & set(grouping):
        return key
    return key_of(
        [
            (identity.stands_for(conn, _STREAMS[name], value) or value)
            if name in _STREAMS
            else value
            for name, value in zip(grouping, values_of(grouping, key), strict=False)
        ]
    )


def behind(conn: Connection, rules: IdentityRules, dimension: str, key: str) -> list[Behind]:
    """Which records of which CRM stand behind the customer, person or deal of a group."""
    grouping = grouping_named(dimension)
    return [
        Behind(name, value, identity.members(conn, _STREAMS[name], value, rules))
        for name, value in zip(grouping, values_of(grouping, key), strict=False)
        if name in _STREAMS
    ]


@dataclass(frozen=True, slots=True)
class Taken:
    """A value that counts for an entity and is another record's."""

    field: str
    value: Scalar
    ref: Key
    """The record that it comes from."""


def taken(
    conn: Connection, company: Company, rules: IdentityRules, stream: str, entity: Key
) -> list[Taken]:
    """The values of copies that count for an entity, by field."""
    sources = fallbacks.sources(conn, stream, rules.of(stream), entity)
    table, maker = RECORD_TABLES[stream], RecordMaker(stream, company)
    query = select(table).where(table.c.ref.in_(sorted(set(sources.values()))))
    known = {row["ref"]: maker.record(row) for row in conn.execute(query).mappings()}
    found: list[Taken] = []
    for name, ref in sorted(sources.items()):
        record = known[ref]
        is_own = name not in type(record).__dataclass_fields__
        found.append(Taken(name, record.extra[name] if is_own else getattr(record, name), ref))
    return found


# ---------------------------------------------------------------- words


def _question(
    stream: str, rules: StreamRules, doubt: Doubt, names: dict[Key, str | None]
) -> Question:
    rule = rules.rules[doubt.rule]
    others = doubt.holders - 2
    if others > 0:
        why = f"{others} more {'record holds' if others == 1 else 'records hold'} the same value"
    elif rule.kind == "email":
        why = "an address of several people, and the names differ"
    else:
        why = "the names differ"
    return Question(
        stream=stream,
        one=doubt.one,
        one_name=names.get(doubt.one),
        other=doubt.other,
        other_name=names.get(doubt.other),
        rule=rule.words,
        value=doubt.value,
        score=doubt.score,
        why=why,
    )


def _names(conn: Connection, stream: str, doubts: Sequence[Doubt]) -> dict[Key, str | None]:
    table = RECORD_TABLES[stream]
    keys = sorted({key for one in doubts for key in (one.one, one.other)})
    found: dict[Key, str | None] = {}
    for start in range(0, len(keys), 500):
        query = select(table.c.ref, table.c.name).where(table.c.ref.in_(keys[start : start + 500]))
        found |= {row.ref: row.name for row in conn.execute(query)}
    return found

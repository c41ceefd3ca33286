"""What the copies of a deal say where the preferred one says nothing, or is not to be asked first.

Kept beside the deals, which stay as their CRMs have them: a row for each deal that stands for
copies, with the values alone that are not its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, or_, select

from store.canonical import Key
from store.identity_rules import DEALS, StreamRules
from store.identity_tables import DEAL_FALLBACKS
from store.tables import DEALS as DEAL_TABLE
from store.tables import IDENTITY

TEXTS: Final = ("product", "source", "type", "kind", "region", "segment", "lost_reason")
"""Fields that may come from a copy, each on its own."""

FIELDS: Final = ("amount", *TEXTS)
"""All of them; an amount brings its currency along. Stages, dates and links are never mixed."""

_AT_ONCE: Final = 500


def rebuild(conn: Connection, rules: StreamRules) -> None:
    """Work everything out from the stored deals and identities."""
    conn.execute(delete(DEAL_FALLBACKS))
    query = select(IDENTITY.c.canonical).where(
        IDENTITY.c.stream == DEALS, IDENTITY.c.canonical.is_not(None)
    )
    if rules:
        _fill(conn, rules, sorted(set(conn.execute(query).scalars())))


def renew(conn: Connection, rules: StreamRules, entities: Iterable[Key]) -> None:
    """Work the values of some deals out anew, after their records and copies have changed."""
    refs = sorted(set(entities))
    for keys in _portions(refs):
        conn.execute(delete(DEAL_FALLBACKS).where(DEAL_FALLBACKS.c.ref.in_(keys)))
    _fill(conn, rules, refs)


def entities_of(conn: Connection, refs: Iterable[Key]) -> set[Key]:
    """These deals, and those that they stand for as it is stored now."""
    found = set(refs)
    for keys in _portions(sorted(found)):
        query = select(IDENTITY.c.canonical).where(
            IDENTITY.c.stream == DEALS,
            IDENTITY.c.ref.in_(keys),
            IDENTITY.c.canonical.is_not(None),
        )
        found.update(conn.execute(query).scalars())
    return found


def _fill(conn: Connection, rules: StreamRules, entities: Sequence[Key]) -> None:
    for keys in _portions(entities):
        of_entity = IDENTITY.c.canonical.in_(keys)
        copies: dict[Key, list[Key]] = defaultdict(list)
        query = select(IDENTITY.c.canonical, IDENTITY.c.ref).where(
            IDENTITY.c.stream == DEALS, of_entity
        )
        for canonical, ref in conn.execute(query):
            copies[canonical].append(ref)
        if not copies:
            continue
        rows = _living(conn, [*copies, *(ref for some in copies.values() for ref in some)])
        found = [
            {"ref": entity, **values}
            for entity, some in sorted(copies.items())
            if entity in rows and (values := _values(rules, entity, some, rows))
        ]
        empty = dict.fromkeys((*FIELDS, "currency"))
        if found:
            conn.execute(insert(DEAL_FALLBACKS), [{**empty, **row} for row in found])


def _living(conn: Connection, refs: Sequence[Key]) -> dict[Key, Mapping[str, Any]]:
    columns = [DEAL_TABLE.c[name] for name in ("ref", "created_at", "currency", *FIELDS)]
    gone = or_(DEAL_TABLE.c.deleted, DEAL_TABLE.c.merged_into.is_not(None))
    return {
        row["ref"]: dict(row)
        for keys in _portions(refs)
        for row in conn.execute(
            select(*columns).where(DEAL_TABLE.c.ref.in_(keys), ~gone)
        ).mappings()
    }


def _values(
    rules: StreamRules, entity: Key, copies: Sequence[Key], rows: Mapping[Key, Mapping[str, Any]]
) -> dict[str, Any]:
    """Field -> value of a copy, where that counts."""
    preferred = dict(rules.preferred)
    living = sorted(ref for ref in copies if ref in rows)
    found: dict[str, Any] = {}
    for name in FIELDS:
        wanted = preferred.get(name)
        # Stable: the entity's own value goes first, unless another connection is asked before.
        in_order = sorted((entity, *living), key=lambda ref: ref.partition(":")[0] != wanted)
        source = next((ref for ref in in_order if rows[ref][name] is not None), entity)
        if source != entity:
            found[name] = rows[source][name]
            if name == "amount":
                found["currency"] = rows[source]["currency"]
    return found


def _portions(refs: Iterable[Key]) -> Iterator[list[Key]]:
    remaining = iter(refs)
    while portion := list(islice(remaining, _AT_ONCE)):
        yield portion

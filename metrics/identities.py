"""Who stands for whom, kept as the configured rules and people's decisions say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection, select

from metrics.catalog import Catalog
from store import fallbacks, identity
from store import kpis as stored
from store.canonical import Key
from store.identity import Resolution
from store.identity_rules import ACCOUNTS, CONTACTS
from store.identity_tables import FALLBACKS
from store.tables import RECORD_TABLES

_KEYS_AT_ONCE: Final = 500


def renew(conn: Connection, catalog: Catalog, *, is_whole: bool) -> None:
    """Work out anew who stands for whom if the rules are other ones than before, or if wanted."""
    wanted = catalog.settings.identity.fingerprint
    if is_whole or stored.fingerprints(conn).get(stored.IDENTITY) != wanted:
        identity.rebuild(conn, catalog.settings.identity)
        _note_names_of_copies(conn)
        fallbacks.rebuild(conn, catalog.settings.identity)
        _note_names_of_copies(conn)
        stored.save_fingerprint(conn, stored.IDENTITY, wanted)


def resolve_page(conn: Connection, catalog: Catalog, streams: Collection[str]) -> Resolution:
    """What a staged page, once applied, changes about who stands for whom.

    Nothing while the rules are others than those that the store was worked out by: then every
    family that could notice is stale, and is built anew with all identities.
    """
    rules = catalog.settings.identity
    if not _is_current(conn, catalog):
        return Resolution()
    return identity.resolve_page(conn, streams, rules)


def resolve_decision(
    conn: Connection, catalog: Catalog, stream: str, refs: Collection[Key]
) -> Resolution:
    """What decisions about records, which are stored already, change."""
    if not _is_current(conn, catalog):
        return Resolution()
    return identity.resolve_around(conn, stream, refs, catalog.settings.identity)


def save(conn: Connection, catalog: Catalog, resolution: Resolution) -> None:
    """Store a resolution, after the records of its page, and which values of copies count now.

    Args:
        conn: in `store.engine.writing`; the page is applied.
        catalog: by whose rules it was resolved.
        resolution: who stands for whom.
    """
    rules = catalog.settings.identity
    identity.save(conn, resolution)
    for stream, entities in resolution.retold.items():
        renamed = sorted(fallbacks.renew(conn, stream, rules.of(stream), entities))
        _note_renamed(conn, stream, renamed)


_NAMED_AFTER_COPIES: Final = {ACCOUNTS: "account", CONTACTS: "contact"}
"""Stream -> the dimension whose labels are names of its records, or of copies of theirs."""


def _note_renamed(conn: Connection, stream: str, renamed: Sequence[Key]) -> None:
    ref = RECORD_TABLES[stream].c.ref
    for start in range(0, len(renamed), _KEYS_AT_ONCE):
        portion = renamed[start : start + _KEYS_AT_ONCE]
        stored.note_renamed(conn, _NAMED_AFTER_COPIES[stream], select(ref).where(ref.in_(portion)))


def _note_names_of_copies(conn: Connection) -> None:
    """Note every label that is, or was, the name of a copy."""
    for stream, dimension in _NAMED_AFTER_COPIES.items():
        kept = FALLBACKS[stream]
        stored.note_renamed(conn, dimension, select(kept.c.ref).where(kept.c.name.is_not(None)))


def _is_current(conn: Connection, catalog: Catalog) -> bool:
    wanted = catalog.settings.identity.fingerprint
    if stored.fingerprints(conn).get(stored.IDENTITY) == wanted:
        return True
    # Should the other rules return, what is stored must not pass for up to date.
    stored.forget_fingerprints(conn, [stored.IDENTITY])
    return False

"""Who stands for whom, kept as the configured rules and people's decisions say."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from metrics.catalog import Catalog
from store import fallbacks, identity
from store import kpis as stored
from store.canonical import Key
from store.identity import Resolution
from store.identity_rules import DEALS
from store.records import STAGE


def renew(conn: Connection, catalog: Catalog, *, is_whole: bool) -> None:
    """Work out anew who stands for whom if the rules are other ones than before, or if wanted."""
    wanted = catalog.settings.identity.fingerprint
    if is_whole or stored.fingerprints(conn).get(stored.IDENTITY) != wanted:
        identity.rebuild(conn, catalog.settings.identity)
        fallbacks.rebuild(conn, catalog.settings.identity.of(DEALS))
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


def save(
    conn: Connection, catalog: Catalog, streams: Collection[str], resolution: Resolution
) -> None:
    """Store a resolution, after the records of its page, and which values of copies count now.

    Args:
        conn: in `store.engine.writing`; the page is applied and still staged.
        catalog: by whose rules it was resolved.
        streams: of the page.
        resolution: who stands for whom.
    """
    rules = catalog.settings.identity.of(DEALS)
    if not rules:
        identity.save(conn, resolution)
        return
    touched = set(resolution.moved.get(DEALS, {}))
    if DEALS in streams:
        staged = STAGE[DEALS]
        touched.update(conn.execute(select(staged.c.ref).where(staged.c.is_changed)).scalars())
    before = fallbacks.entities_of(conn, touched)
    identity.save(conn, resolution)
    fallbacks.renew(conn, rules, before | fallbacks.entities_of(conn, touched))


def _is_current(conn: Connection, catalog: Catalog) -> bool:
    wanted = catalog.settings.identity.fingerprint
    if stored.fingerprints(conn).get(stored.IDENTITY) == wanted:
        return True
    # Should the other rules return, what is stored must not pass for up to date.
    stored.forget_fingerprints(conn, [stored.IDENTITY])
    return False

"""Who stands for whom: merged and deleted accounts, owners known to several CRMs.

The table ``identity`` holds only the exceptions. It is a function of the stored records alone,
whatever the order in which they came:

- a merged account or owner is the end of its chain of winners (of a circle the smallest key);
- an account whose chain ends in a deleted one is nobody (null);
- owners with one e-mail in several connections are the smallest of their keys, if wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select

from store.canonical import Key
from store.records import STAGE
from store.tables import ACCOUNTS, IDENTITY, OWNERS

ACCOUNT_STREAM: Final = "accounts"
OWNER_STREAM: Final = "owners"

_KEYS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Resolution:
    """Records that stand for somebody else than before; a record may stand for itself again."""

    accounts: Mapping[Key, Key | None]
    owners: Mapping[Key, Key | None]

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.accounts or self.owners)


@dataclass(frozen=True, slots=True)
class _State:
    """What decides for whom a record stands."""

    deleted: bool
    merged_into: Key | None


_UNKNOWN: Final = _State(deleted=False, merged_into=None)


# ---------------------------------------------------------------- a page


def resolve_page(
    conn: Connection, streams: Collection[str], *, match_owners_by_email: bool
) -> Resolution:
    """What a staged page, once applied, changes about who stands for whom.

    Args:
        conn: the connection on which the page is staged and not yet applied.
        streams: the streams with staged rows.
        match_owners_by_email: whether owners of several connections are matched.
    """
    return Resolution(
        accounts=_accounts_of_page(conn) if ACCOUNT_STREAM in streams else {},
        owners=(
            _owners_of_page(conn, match_by_email=match_owners_by_email)
            if OWNER_STREAM in streams
            else {}
        ),
    )


def save(conn: Connection, resolution: Resolution) -> None:
    """Store a resolution."""
    _save(conn, ACCOUNT_STREAM, resolution.accounts)
    _save(conn, OWNER_STREAM, resolution.owners)


def _save(conn: Connection, stream: str, canonicals: Mapping[Key, Key | None]) -> None:
    for keys in _portions(canonicals):
        conn.execute(delete(IDENTITY).where(IDENTITY.c.stream == stream, IDENTITY.c.ref.in_(keys)))
    rows = [
        {"stream": stream, "ref": ref, "canonical": canonical}
        for ref, canonical in sorted(canonicals.items())
        if canonical != ref
    ]
    if rows:
        conn.execute(insert(IDENTITY), rows)


# ---------------------------------------------------------------- accounts


def _accounts_of_page(conn: Connection) -> dict[Key, Key | None]:
    staged = STAGE[ACCOUNT_STREAM]
    rows = conn.execute(
        select(
            staged.c.ref,
            staged.c.deleted,
            staged.c.merged_into,
            ACCOUNTS.c.deleted.label("was_deleted"),
            ACCOUNTS.c.merged_into.label("was_merged_into"),
        )
        .select_from(staged.outerjoin(ACCOUNTS, ACCOUNTS.c.ref == staged.c.ref))
        .where(
            staged.c.is_changed,
            or_(
                staged.c.deleted,
                staged.c.merged_into.is_not(None),
                ACCOUNTS.c.deleted,
                ACCOUNTS.c.merged_into.is_not(None),
            ),
        )
    ).all()
    states = {row.ref: _State(row.deleted, row.merged_into) for row in rows}
    changed = [
        row.ref
        for row in rows
        if states[row.ref] != _State(bool(row.was_deleted), row.was_merged_into)
    ]
    if not changed:
        return {}
    before = _stored(conn, ACCOUNT_STREAM, changed)
    stood_for = {before.get(ref, ref) for ref in changed}
    # Those they stood for, too: in a circle of merges one stands for all.
    affected = {*changed, *stood_for, *_standing_for(conn, stood_for)} - {None}
    before |= _stored(conn, ACCOUNT_STREAM, affected - before.keys())
    _load_chains(conn, affected, states)
    after = {ref: _end_of_chain(ref, states) for ref in affected}
    return {ref: end for ref, end in after.items() if end != before.get(ref, ref)}


def _stored(conn: Connection, stream: str, refs: Iterable[Key]) -> dict[Key, Key | None]:
    found: dict[Key, Key | None] = {}
    for keys in _portions(refs):
        query = select(IDENTITY.c.ref, IDENTITY.c.canonical).where(
            IDENTITY.c.stream == stream, IDENTITY.c.ref.in_(keys)
        )
        found |= {row.ref: row.canonical for row in conn.execute(query)}
    return found


def _standing_for(conn: Connection, canonicals: Collection[Key | None]) -> set[Key]:
    """Accounts that stand for any of these; for nobody: those that a merge led there."""
    found: set[Key] = set()
    of_accounts = IDENTITY.c.stream == ACCOUNT_STREAM
    for keys in _portions(key for key in canonicals if key is not None):
        query = select(IDENTITY.c.ref).where(of_accounts, IDENTITY.c.canonical.in_(keys))
        found.update(conn.execute(query).scalars())
    if None in canonicals:
        query = (
            select(IDENTITY.c.ref)
            .join(ACCOUNTS, ACCOUNTS.c.ref == IDENTITY.c.ref)
            .where(of_accounts, IDENTITY.c.canonical.is_(None), ACCOUNTS.c.merged_into.is_not(None))
        )
        found.update(conn.execute(query).scalars())
    return found


def _load_chains(conn: Connection, refs: Iterable[Key], states: dict[Key, _State]) -> None:
    """Add the states of these accounts and of all their winners to `states`."""
    missing = _unloaded(refs, states)
    while missing:
        for keys in _portions(missing):
            query = select(ACCOUNTS.c.ref, ACCOUNTS.c.deleted, ACCOUNTS.c.merged_into).where(
                ACCOUNTS.c.ref.in_(keys)
            )
            for row in conn.execute(query):
                states[row.ref] = _State(row.deleted, row.merged_into)
        for ref in missing:
            states.setdefault(ref, _UNKNOWN)
        missing = _unloaded((), states)


def _unloaded(refs: Iterable[Key], states: Mapping[Key, _State]) -> set[Key]:
    winners = {state.merged_into for state in states.values() if state.merged_into is not None}
    return {ref for ref in (*refs, *winners) if ref not in states}


def _end_of_chain(ref: Key, states: Mapping[Key, _State]) -> Key | None:
    passed: dict[Key, None] = {}
    while True:
        state = states.get(ref, _UNKNOWN)
        if state.merged_into is None:
            return None if state.deleted else ref
        if ref in passed:
            circle = list(passed)
            return min(circle[circle.index(ref) :])
        passed[ref] = None
        ref = state.merged_into


# ---------------------------------------------------------------- owners


@dataclass(frozen=True, slots=True)
class _OwnerState:
    email: str
    merged_into: Key | None


def _owners_of_page(conn: Connection, *, match_by_email: bool) -> dict[Key, Key | None]:
    staged = STAGE[OWNER_STREAM]
    changed = _owner_states(conn, staged, staged.c.is_changed)
    if not changed:
        return {}
    # A company has few owners: all of them are looked at whenever one of them changes.
    after = _owners_resolved(_owner_states(conn, OWNERS) | changed, match_by_email=match_by_email)
    return _difference(_all_stored(conn, OWNER_STREAM), after)


def _owner_states(conn: Connection, table: object, *conditions: object) -> dict[Key, _OwnerState]:
    columns = table.c  # type: ignore[attr-defined]  # the stored table or its staged mirror
    query = select(columns.ref, columns.email, columns.merged_into).where(*conditions)  # type: ignore[arg-type]  # column conditions
    return {
        row.ref: _OwnerState((row.email or "").strip().lower(), row.merged_into)
        for row in conn.execute(query)
    }


def _owners_resolved(
    owners: Mapping[Key, _OwnerState], *, match_by_email: bool
) -> dict[Key, Key | None]:
    """Owner -> for whom it stands, where that is somebody else. A departed owner stays itself."""
    chains = {
        ref: _State(deleted=False, merged_into=state.merged_into) for ref, state in owners.items()
    }
    ends = {ref: _end_of_chain(ref, chains) or ref for ref in owners}
    by_email: dict[str, list[Key]] = defaultdict(list)
    for ref in sorted(set(ends.values()) & owners.keys()):
        if match_by_email and owners[ref].email:
            by_email[owners[ref].email].append(ref)
    matched = {
        ref: same[0]
        for same in by_email.values()
        if len({ref.partition(":")[0] for ref in same}) > 1
        for ref in same
    }
    resolved = {ref: matched.get(end, end) for ref, end in ends.items()}
    return {ref: canonical for ref, canonical in resolved.items() if canonical != ref}


# ---------------------------------------------------------------- everything


def rebuild(conn: Connection, *, match_owners_by_email: bool) -> None:
    """Work the whole table out from the stored records."""
    query = select(ACCOUNTS.c.ref, ACCOUNTS.c.deleted, ACCOUNTS.c.merged_into).where(
        or_(ACCOUNTS.c.deleted, ACCOUNTS.c.merged_into.is_not(None))
    )
    # Those that are neither deleted nor merged are the ends of chains, like unknown ones.
    states = {row.ref: _State(row.deleted, row.merged_into) for row in conn.execute(query)}
    ends = {ref: _end_of_chain(ref, states) for ref in states}
    accounts = {ref: end for ref, end in ends.items() if end != ref}
    owners = _owners_resolved(_owner_states(conn, OWNERS), match_by_email=match_owners_by_email)
    save(
        conn,
        Resolution(
            accounts=_difference(_all_stored(conn, ACCOUNT_STREAM), accounts),
            owners=_difference(_all_stored(conn, OWNER_STREAM), owners),
        ),
    )


def _all_stored(conn: Connection, stream: str) -> dict[Key, Key | None]:
    query = select(IDENTITY.c.ref, IDENTITY.c.canonical).where(IDENTITY.c.stream == stream)
    return {row.ref: row.canonical for row in conn.execute(query)}


def _difference(
    before: Mapping[Key, Key | None], after: Mapping[Key, Key | None]
) -> dict[Key, Key | None]:
    return {
        ref: after.get(ref, ref)
        for ref in before.keys() | after.keys()
        if before.get(ref, ref) != after.get(ref, ref)
    }


def _portions(keys: Iterable[Key]) -> Iterator[Sequence[Key]]:
    remaining = iter(keys)
    while portion := list(islice(remaining, _KEYS_AT_ONCE)):
        yield portion

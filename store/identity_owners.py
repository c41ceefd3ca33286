"""Which users of several CRMs are one person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from store.canonical import Key
from store.chains import end_of_chain
from store.records import STAGE
from store.tables import OWNERS

OWNER_STREAM: Final = "owners"


@dataclass(frozen=True, slots=True)
class _OwnerState:
    email: str
    merged_into: Key | None


def owners_of_page(conn: Connection, *, match_by_email: bool) -> dict[Key, Key] | None:
    """For whom every owner stands once the staged page is applied, where that is another one.

    None: the page changes nothing about it.
    """
    staged = STAGE[OWNER_STREAM]
    changed = _states(conn, staged, staged.c.is_changed)
    if not changed:
        return None
    # A company has few owners: all of them are looked at whenever one of them changes.
    return _resolved(_states(conn, OWNERS) | changed, match_by_email=match_by_email)


def stored_owners(conn: Connection, *, match_by_email: bool) -> dict[Key, Key]:
    """For whom every stored owner stands, where that is another one."""
    return _resolved(_states(conn, OWNERS), match_by_email=match_by_email)


def _states(conn: Connection, table: object, *conditions: object) -> dict[Key, _OwnerState]:
    columns = table.c  # type: ignore[attr-defined]  # the stored table or its staged mirror
    query = select(columns.ref, columns.email, columns.merged_into).where(*conditions)  # type: ignore[arg-type]  # column conditions
    return {
        row.ref: _OwnerState((row.email or "").strip().lower(), row.merged_into)
        for row in conn.execute(query)
    }


def _resolved(owners: Mapping[Key, _OwnerState], *, match_by_email: bool) -> dict[Key, Key]:
    """Owner -> for whom it stands, where that is somebody else. A departed owner stays itself."""
    into = {ref: one.merged_into for ref, one in owners.items() if one.merged_into is not None}
    ends = {ref: end_of_chain(ref, into) for ref in owners}
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

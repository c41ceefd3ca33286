"""Who stands for whom: merged, deleted and matched records.

The table ``identity`` holds only the exceptions. It is a function of the stored records, of the
rules and of people's decisions, whatever the order in which they came:

- a merged record is the end of its chain of winners (of a circle the smallest key);
- an account whose chain ends in a deleted one is nobody (null);
- records of several connections that `store.linking` joins are the preferred one of them;
- owners with one e-mail in several connections are the smallest of their keys, if wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Connection, Select, and_, bindparam, delete, func, insert, or_, select

from store import decisions, fallbacks
from store.canonical import Key
from store.chains import end_of_chain
from store.decisions import DatedDecision
from store.identity_evidence import UNKNOWN, Evidence, Standing, ends_with_nobody
from store.identity_owners import OWNER_STREAM, owners_of_page, stored_owners
from store.identity_rules import (
    ALWAYS_KEPT,
    MATCHED_STREAMS,
    MOST_HOLDERS,
    IdentityRules,
    StreamRules,
)
from store.linking import Doubt, Holder, Linker, canonicals
from store.loading import load
from store.records import STAGE
from store.tables import IDENTITY, IDENTITY_KEYS, RECORD_TABLES

_KEYS_AT_ONCE: Final = 500
_ROWS_AT_ONCE: Final = 5_000
_KEY_COLUMNS: Final = ("stream", "rule", "value", "ref")

Held: TypeAlias = tuple[int, str]
"""Place of a rule, and a value."""

_HeldRow: TypeAlias = tuple[str, int, str, Key]
"""Stream, place of a rule, value, and who holds it."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Records that stand for somebody else than before; a record may stand for itself again."""

    moved: Mapping[str, Mapping[Key, Key | None]] = field(default_factory=dict)
    """Stream -> record -> for whom it stands now."""
    dropped: Sequence[_HeldRow] = ()
    """What changed records hold no more."""
    added: Sequence[_HeldRow] = ()
    """What they hold now."""
    retold: Mapping[str, AbstractSet[Key]] = field(default_factory=dict)
    """Stream -> records that stand, or stood, for others, and may count by other values of these:
    of streams with rules alone."""

    def __bool__(self) -> bool:
        """Whether anybody stands for somebody else."""
        return bool(self.streams)

    @property
    def streams(self) -> frozenset[str]:
        """Of which anybody stands for somebody else."""
        return frozenset(stream for stream, keys in self.moved.items() if keys)


# ---------------------------------------------------------------- a page


def resolve_page(conn: Connection, streams: Collection[str], rules: IdentityRules) -> Resolution:
    """What a staged page, once applied, changes about who stands for whom.

    Args:
        conn: the connection on which the page is staged and not yet applied.
        streams: the streams with staged rows.
        rules: by what records are recognised.
    """
    moved: dict[str, Mapping[Key, Key | None]] = {}
    dropped: list[_HeldRow] = []
    added: list[_HeldRow] = []
    retold: dict[str, AbstractSet[Key]] = {}
    for stream in MATCHED_STREAMS:
        if stream in streams and _is_kept(stream, rules):
            near = _Neighbourhood(conn, stream, rules.of(stream))
            near.read_page()
            moved[stream] = near.moved()
            dropped += near.dropped()
            added += near.added()
            if rules.of(stream):
                told = fallbacks.told_anew(conn, stream, rules.of(stream))
                retold[stream] = told | near.entities_of(moved[stream])
    if OWNER_STREAM in streams:
        owners = owners_of_page(conn, match_by_email=rules.owners_by_email)
        if owners is not None:
            moved[OWNER_STREAM] = _difference(_all_stored(conn, OWNER_STREAM), owners)
    return Resolution(moved, dropped, added, retold)


def resolve_around(
    conn: Connection, stream: str, refs: Iterable[Key], rules: IdentityRules
) -> Resolution:
    """What decisions about these records, which are stored already, change.

    Args:
        conn: a connection in `store.engine.writing`.
        stream: of the records.
        refs: that people decided about.
        rules: by what records are recognised.
    """
    near = _Neighbourhood(conn, stream, rules.of(stream))
    near.look_at(refs)
    moved = near.moved()
    retold = {stream: near.entities_of(moved)} if rules.of(stream) else {}
    return Resolution({stream: moved}, retold=retold)


def save(conn: Connection, resolution: Resolution) -> None:
    """Store a resolution, and what the changed records hold."""
    for stream, keys in resolution.moved.items():
        _save(conn, stream, keys)
    if resolution.dropped:
        # One by one: a list of tuples would make SQLite read all keys.
        key = IDENTITY_KEYS.c
        columns = (key.stream, key.rule, key.value, key.ref)
        gone = delete(IDENTITY_KEYS).where(
            *(column == bindparam(f"a_{column.name}") for column in columns)
        )
        names = [f"a_{column.name}" for column in columns]
        conn.execute(gone, [dict(zip(names, row, strict=True)) for row in resolution.dropped])
    load(conn, IDENTITY_KEYS.name, _KEY_COLUMNS, resolution.added)


def _save(conn: Connection, stream: str, keys: Mapping[Key, Key | None]) -> None:
    for refs in _portions(keys):
        conn.execute(delete(IDENTITY).where(IDENTITY.c.stream == stream, IDENTITY.c.ref.in_(refs)))
    rows = [
        {"stream": stream, "ref": ref, "canonical": canonical}
        for ref, canonical in sorted(keys.items())
        if canonical != ref
    ]
    if rows:
        conn.execute(insert(IDENTITY), rows)


def _is_kept(stream: str, rules: IdentityRules) -> bool:
    """Whether it is known who stands for whom.

    Of accounts and people always: their CRM merges them, and what belonged to a loser is the
    winner's, whether or not the CRM says so of each answer, ticket and touch. Of deals, which
    nothing but a lead links to, if they match.
    """
    return stream in ALWAYS_KEPT or bool(rules.of(stream))


# ---------------------------------------------------------------- what a change reaches


class _Neighbourhood:
    """Records that change, and everybody who may be one with them, before or after."""

    def __init__(self, conn: Connection, stream: str, rules: StreamRules) -> None:
        self._conn = conn
        self._stream = stream
        self._table = RECORD_TABLES[stream]
        self._evidence = Evidence(stream, rules)
        self._rules = rules
        self._was: dict[Key, Standing] = {}
        """Of the records that change."""
        self._will: dict[Key, Standing] = {}
        self._gained: dict[Held, set[Key]] = defaultdict(set)
        self._now: dict[Key, Standing] = {}
        """Of everybody, as it will be."""
        self._stored: dict[Key, Key | None] = {}
        """For whom each stood until now."""
        self._groups: dict[Held, AbstractSet[Key]] = {}
        self._decisions: dict[tuple[Key, Key], DatedDecision] = {}

    # ---- reading

    def read_page(self) -> None:
        """Begin with the staged records of which anything changes that decides who they are."""
        staged, stored, names = STAGE[self._stream], self._table, self._evidence.columns
        was = {name: stored.c[name] for name in names}
        differs = [
            staged.c[name].is_distinct_from(
                func.coalesce(column, False) if name == "deleted" else column
            )
            for name, column in was.items()
        ]
        if self._rules:
            differs.append(stored.c.ref.is_(None))
        query = (
            select(
                staged.c.ref,
                stored.c.ref.label("stored_ref"),
                *(staged.c[name] for name in names),
                *(column.label(f"was_{name}") for name, column in was.items()),
            )
            .select_from(staged.outerjoin(stored, stored.c.ref == staged.c.ref))
            .where(staged.c.is_changed, or_(*differs))
        )
        for row in self._conn.execute(query).mappings():
            ref, before = row["ref"], UNKNOWN
            if row["stored_ref"] is not None:
                former = {name: row[f"was_{name}"] for name in names}
                before = self._evidence.standing(ref, former)
            after = self._evidence.standing(ref, row)
            if after != before or row["stored_ref"] is None:
                self._was[ref], self._will[ref] = before, after
                for held in after.keys:
                    self._gained[held].add(ref)
        self.look_at(self._will)

    def look_at(self, refs: Iterable[Key]) -> None:
        """Read these records and everybody who may be one with them."""
        todo = set(refs)
        while todo:
            self._read(todo)
            near = self._mates(todo)
            near |= {into for ref in todo if (into := self._now[ref].merged_into) is not None}
            if self._rules:
                near |= self._sharers(todo)
                near |= self._decided(todo)
            todo = near - self._now.keys()

    def _read(self, refs: AbstractSet[Key]) -> None:
        names = self._evidence.columns
        for keys in _portions(sorted(refs - self._will.keys())):
            query = select(self._table.c.ref, *(self._table.c[name] for name in names)).where(
                self._table.c.ref.in_(keys)
            )
            for row in self._conn.execute(query).mappings():
                self._now[row["ref"]] = self._evidence.standing(row["ref"], row)
        for ref in refs:
            self._now.setdefault(ref, self._will.get(ref, UNKNOWN))

    def _mates(self, refs: AbstractSet[Key]) -> set[Key]:
        """Everybody who was one with these until now."""
        stored = _stored(self._conn, self._stream, refs)
        self._stored |= {ref: stored.get(ref, ref) for ref in refs}
        stood_for = {canonical for canonical in stored.values() if canonical is not None}
        found = stood_for | _standing_for(self._conn, self._stream, refs | stood_for)
        if ends_with_nobody(self._stream) and None in stored.values():
            found |= _merged_into_nobody(self._conn, self._stream)
        return found

    def _sharers(self, refs: AbstractSet[Key]) -> set[Key]:
        """Everybody who holds a value that these hold, or held."""
        wanted: set[Held] = set()
        for ref in refs:
            wanted.update(self._now[ref].keys)
            if ref in self._was:
                wanted.update(self._was[ref].keys)
        wanted -= self._groups.keys()
        found: set[Key] = set()
        for held, before in _holders(
            self._conn, self._stream, self._rules, wanted, len(self._will)
        ).items():
            after = {ref for ref in before if ref not in self._will} | self._gained.get(held, set())
            is_bounded = not self._rules.rules[held[0]].is_by_id
            if is_bounded and min(len(before), len(after)) > MOST_HOLDERS:
                self._groups[held] = frozenset()
                continue
            self._groups[held] = after
            found |= before | after
        # What more hold than can matter needs no second look.
        self._groups |= dict.fromkeys(wanted - self._groups.keys(), frozenset())
        return found

    def _decided(self, refs: AbstractSet[Key]) -> set[Key]:
        found = decisions.about(self._conn, self._stream, refs)
        self._decisions |= {(one.one, one.other): one for one in found}
        return {ref for one in found for ref in (one.one, one.other)}

    # ---- what comes of it

    def moved(self) -> dict[Key, Key | None]:
        """Record -> for whom it stands, where that is another one than before."""
        heads = _Heads(self._stream, self._now)
        linker = Linker(self._rules, decisions.newest_first(self._decisions.values()), heads.living)
        for decision in self._decisions.values():
            for ref in (decision.one, decision.other):
                head = heads.living(ref)
                if head is not None:
                    linker.know(head, self._now[head].created_at)
        for place, value in sorted(self._groups):
            holders = [
                Holder(ref, head, self._now[head].name, self._now[head].created_at)
                for ref in sorted(self._groups[place, value])
                if (head := heads.living(ref)) is not None
            ]
            if len(holders) > 1:
                linker.add(self._rules.rules[place], place, value, holders)
        after = dict(canonicals(linker, {ref: heads.end(ref) for ref in self._now}))
        return {
            ref: after.get(ref, ref)
            for ref in self._now
            if after.get(ref, ref) != self._stored[ref]
        }

    def entities_of(self, moved: Mapping[Key, Key | None]) -> set[Key]:
        """The moved records, and all for which they stood or stand now."""
        found = {*moved, *moved.values(), *(self._stored[ref] for ref in moved)}
        return {ref for ref in found if ref is not None}

    def dropped(self) -> list[_HeldRow]:
        """What the changed records hold no more."""
        return self._lost(self._was, self._will)

    def added(self) -> list[_HeldRow]:
        """What they hold now and did not hold before."""
        return self._lost(self._will, self._was)

    def _lost(self, some: Mapping[Key, Standing], others: Mapping[Key, Standing]) -> list[_HeldRow]:
        return [
            (self._stream, place, value, ref)
            for ref, one in some.items()
            for place, value in sorted(set(one.keys) - set(others[ref].keys))
        ]


class _Heads:
    """The records that others were merged into."""

    def __init__(self, stream: str, standings: Mapping[Key, Standing]) -> None:
        self._standings = standings
        self._into = {
            ref: one.merged_into for ref, one in standings.items() if one.merged_into is not None
        }
        self._is_nobody_known = ends_with_nobody(stream)

    def living(self, ref: Key) -> Key | None:
        """Into whom a record was merged, or itself; None: it is gone."""
        end = end_of_chain(ref, self._into)
        return None if self._is_gone(end) else end

    def end(self, ref: Key) -> Key | None:
        """The same; of streams whose deleted records keep what belongs to them never None."""
        end = end_of_chain(ref, self._into)
        return None if self._is_nobody_known and self._is_gone(end) else end

    def _is_gone(self, end: Key) -> bool:
        standing = self._standings.get(end, UNKNOWN)
        return standing.deleted and standing.merged_into is None


# ---------------------------------------------------------------- everything


def rebuild(conn: Connection, rules: IdentityRules) -> None:
    """Work everything out from the stored records and decisions.

    Args:
        conn: a connection in `store.engine.writing`.
        rules: by what records are recognised.
    """
    for stream in MATCHED_STREAMS:
        conn.execute(delete(IDENTITY_KEYS).where(IDENTITY_KEYS.c.stream == stream))
        found: Iterable[tuple[Key, Key | None]] = ()
        if _is_kept(stream, rules):
            everybody = _Everybody(conn, stream, rules.of(stream))
            everybody.read(is_noting=True)
            found = everybody.canonicals()
        conn.execute(delete(IDENTITY).where(IDENTITY.c.stream == stream))
        for rows in _portions(found, _ROWS_AT_ONCE):
            load(
                conn,
                IDENTITY.name,
                ("stream", "ref", "canonical"),
                [(stream, ref, canonical) for ref, canonical in rows],
            )
    owners = stored_owners(conn, match_by_email=rules.owners_by_email)
    _save(conn, OWNER_STREAM, _difference(_all_stored(conn, OWNER_STREAM), owners))


def doubts(conn: Connection, stream: str, rules: StreamRules) -> list[Doubt]:
    """Matches that wait for a person, the surest first; of each two entities the surest alone.

    Args:
        conn: in `store.engine.reading`.
        stream: whose records.
        rules: by what they are recognised: those that the store was linked with.
    """
    if not rules:
        return []
    found: list[Doubt] = []
    everybody = _Everybody(conn, stream, rules, on_doubt=found.append)
    everybody.read(is_noting=False)
    linker = everybody.linked()
    best: dict[tuple[Key, Key], Doubt] = {}
    for doubt in found:
        if linker.are_one(doubt.one, doubt.other) or linker.are_kept_apart(doubt.one, doubt.other):
            continue
        pair = linker.entity_of(doubt.one), linker.entity_of(doubt.other)
        place = (min(pair), max(pair))
        if place not in best or doubt.score > best[place].score:
            best[place] = doubt
    return sorted(best.values(), key=lambda one: (-one.score, one.rule, one.one, one.other))


class _Everybody:
    """All records of a stream."""

    def __init__(
        self,
        conn: Connection,
        stream: str,
        rules: StreamRules,
        on_doubt: Callable[[Doubt], None] | None = None,
    ) -> None:
        self._conn = conn
        self._stream = stream
        self._rules = rules
        self._on_doubt = on_doubt
        self._table = RECORD_TABLES[stream]
        self._evidence = Evidence(stream, rules)
        self._special: dict[Key, Standing] = {}
        """Merged and deleted records, and those that they lead to."""
        self._decisions: list[DatedDecision] = []
        self._heads = _Heads(stream, {})

    def read(self, *, is_noting: bool) -> None:
        """Read all records; note what they hold if wanted."""
        table, names = self._table, self._evidence.columns
        query = select(table.c.ref, *(table.c[name] for name in names))
        is_special = or_(table.c.deleted, table.c.merged_into.is_not(None))
        if not (self._rules and is_noting):
            query = query.where(is_special)
        result = self._conn.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})
        for rows in result.mappings().partitions():
            held: list[_HeldRow] = []
            for row in rows:
                ref = row["ref"]
                standing = self._evidence.standing(ref, row)
                if standing.deleted or standing.merged_into is not None:
                    self._special[ref] = standing
                held += [(self._stream, place, value, ref) for place, value in standing.keys]
            if is_noting:
                load(self._conn, IDENTITY_KEYS.name, _KEY_COLUMNS, held)
        self._decisions = decisions.every(self._conn, self._stream)
        named = {one.merged_into for one in self._special.values() if one.merged_into is not None}
        named |= {ref for one in self._decisions for ref in (one.one, one.other)}
        for keys in _portions(sorted(named - self._special.keys())):
            for row in self._conn.execute(
                select(table.c.ref, *(table.c[name] for name in names)).where(table.c.ref.in_(keys))
            ).mappings():
                self._special[row["ref"]] = self._evidence.standing(row["ref"], row)
        self._heads = _Heads(self._stream, self._special)

    def linked(self) -> Linker:
        """Everybody joined to entities."""
        heads, special = self._heads, self._special
        linker = Linker(
            self._rules,
            decisions.newest_first(self._decisions),
            heads.living,
            on_doubt=self._on_doubt,
        )
        for decision in self._decisions:
            for ref in (decision.one, decision.other):
                head = heads.living(ref)
                if head is not None:
                    linker.know(head, special.get(head, UNKNOWN).created_at)
        rows = self._conn.execute(
            self._shared_values(), execution_options={"yield_per": _ROWS_AT_ONCE}
        )
        for (place, value), holding in groupby(rows, key=lambda row: (row.rule, row.value)):
            holders: list[Holder] = []
            for _, _, ref, name, created_at in holding:
                if ref not in special:
                    holders.append(Holder(ref, ref, name, created_at))
                    continue
                head = heads.living(ref)
                if head is not None:
                    standing = special.get(head, UNKNOWN)
                    holders.append(Holder(ref, head, standing.name, standing.created_at))
            if len(holders) > 1:
                linker.add(self._rules.rules[place], place, value, holders)
        return linker

    def canonicals(self) -> Iterator[tuple[Key, Key | None]]:
        """Record -> for whom it stands, where that is somebody else."""
        linker = self.linked() if self._rules else Linker(self._rules)
        return canonicals(linker, {ref: self._heads.end(ref) for ref in self._special})

    def _shared_values(self) -> Select[int, str, Key, str | None, int | None]:
        key = IDENTITY_KEYS.c
        by_id = [place for place, rule in enumerate(self._rules.rules) if rule.is_by_id]
        holders = func.count()
        is_telling = holders > 1
        if self._on_doubt is None:
            is_telling = and_(is_telling, or_(key.rule.in_(by_id), holders <= MOST_HOLDERS))
        shared = (
            select(key.rule, key.value)
            .where(key.stream == self._stream)
            .group_by(key.rule, key.value)
            .having(is_telling)
            .subquery("shared")
        )
        table = self._table
        return (
            select(key.rule, key.value, key.ref, table.c.name, table.c.created_at)
            .select_from(shared)
            .join(IDENTITY_KEYS, and_(key.rule == shared.c.rule, key.value == shared.c.value))
            .outerjoin(table, table.c.ref == key.ref)
            .where(key.stream == self._stream)
            .order_by(key.rule, key.value, key.ref)
        )


# ---------------------------------------------------------------- asking the store


def is_known(conn: Connection, stream: str, ref: Key) -> bool:
    """Whether a record is stored."""
    table = RECORD_TABLES[stream]
    return conn.execute(select(table.c.ref).where(table.c.ref == ref)).first() is not None


def stands_for(conn: Connection, stream: str, ref: Key) -> Key | None:
    """The record that one stands for, itself most often; None: nobody."""
    return _stored(conn, stream, [ref]).get(ref, ref)


def all_standing_for(conn: Connection, stream: str) -> dict[Key, Key | None]:
    """Records of a stream that stand for another one, or for nobody -> which one."""
    return _all_stored(conn, stream)


@dataclass(frozen=True, slots=True)
class Member:
    """One record behind an entity."""

    ref: Key
    name: str | None
    deleted: bool
    merged_into: Key | None
    evidence: tuple[str, ...]
    """Why it belongs here, in words."""


def members(conn: Connection, stream: str, key: Key, rules: IdentityRules) -> list[Member]:
    """All records that stand for an entity, the entity's own first.

    Args:
        conn: in any transaction.
        stream: accounts, contacts or deals.
        key: the entity.
        rules: by which records are recognised.
    """
    evidence = Evidence(stream, rules.of(stream))
    refs = [key, *sorted(_standing_for(conn, stream, [key]))]
    table = RECORD_TABLES[stream]
    columns = dict.fromkeys(("ref", "name", *evidence.columns))
    rows = {
        row["ref"]: row
        for keys in _portions(refs)
        for row in conn.execute(
            select(*(table.c[name] for name in columns)).where(table.c.ref.in_(keys))
        ).mappings()
    }
    standings = {ref: evidence.standing(ref, row) for ref, row in rows.items()}
    holders: dict[Held, set[Key]] = defaultdict(set)
    for ref, standing in standings.items():
        for held in standing.keys:
            holders[held].add(ref)
    decided = [one for one in decisions.about(conn, stream, refs) if one.is_same]
    found: list[Member] = []
    for ref in refs:
        standing = standings.get(ref, UNKNOWN)
        words = [
            f"{rules.of(stream).rules[place].words}: {value}"
            for place, value in standing.keys
            if len(holders[place, value]) > 1
        ]
        words += [
            f"linked by a person with {one.other if one.one == ref else one.one}"
            for one in decided
            if ref in (one.one, one.other)
        ]
        if standing.merged_into is not None:
            words.append(f"merged into {standing.merged_into} in its CRM")
        name = rows[ref]["name"] if ref in rows else None
        found.append(Member(ref, name, standing.deleted, standing.merged_into, tuple(words)))
    return found


def _stored(conn: Connection, stream: str, refs: Iterable[Key]) -> dict[Key, Key | None]:
    found: dict[Key, Key | None] = {}
    for keys in _portions(refs):
        query = select(IDENTITY.c.ref, IDENTITY.c.canonical).where(
            IDENTITY.c.stream == stream, IDENTITY.c.ref.in_(keys)
        )
        found |= {row.ref: row.canonical for row in conn.execute(query)}
    return found


def _standing_for(conn: Connection, stream: str, entities: Iterable[Key]) -> set[Key]:
    found: set[Key] = set()
    for keys in _portions(entities):
        query = select(IDENTITY.c.ref).where(
            IDENTITY.c.stream == stream, IDENTITY.c.canonical.in_(keys)
        )
        found.update(conn.execute(query).scalars())
    return found


def _merged_into_nobody(conn: Connection, stream: str) -> set[Key]:
    """Merged records whose last winner is gone."""
    table = RECORD_TABLES[stream]
    query = (
        select(IDENTITY.c.ref)
        .join(table, table.c.ref == IDENTITY.c.ref)
        .where(
            IDENTITY.c.stream == stream,
            IDENTITY.c.canonical.is_(None),
            table.c.merged_into.is_not(None),
        )
    )
    return set(conn.execute(query).scalars())


def _holders(
    conn: Connection, stream: str, rules: StreamRules, wanted: Iterable[Held], slack: int
) -> dict[Held, set[Key]]:
    """Who holds these values in the store, where few enough do that it could matter.

    Args:
        conn: in a transaction.
        stream: of the holders.
        rules: of the stream.
        wanted: places of rules, and values.
        slack: how many holders a page can take away from a value.
    """
    found: dict[Held, set[Key]] = {held: set() for held in wanted}
    by_rule: dict[int, list[str]] = defaultdict(list)
    for place, value in found:
        by_rule[place].append(value)
    key = IDENTITY_KEYS.c
    for place, values in by_rule.items():
        at_rule = and_(key.stream == stream, key.rule == place)
        for portion in _portions(sorted(values)):
            telling = portion
            if not rules.rules[place].is_by_id:
                counted = select(key.value, func.count()).where(at_rule, key.value.in_(portion))
                for value, count in conn.execute(counted.group_by(key.value)):
                    if count > MOST_HOLDERS + slack:
                        del found[place, value]
                telling = [value for value in portion if (place, value) in found]
            held = select(key.value, key.ref).where(at_rule, key.value.in_(telling))
            for value, ref in conn.execute(held):
                found[place, value].add(ref)
    return found


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


_T = TypeVar("_T")


def _portions(items: Iterable[_T], size: int = _KEYS_AT_ONCE) -> Iterator[list[_T]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion

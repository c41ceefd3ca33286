"""What copies of a record say where it says nothing itself, or is not to be asked first.

Kept beside the records, which stay as their CRMs have them: a row for each account, contact and
deal that stands for copies, with the values alone that are not its own. Stages, dates of deals
and links to customers and people are never mixed, and nothing is taken from a record that is
deleted or merged away. An own amount is taken from a copy in the same currency alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, islice
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    or_,
    select,
)

from store.canonical import Key, Scalar
from store.identity_rules import MATCHED_STREAMS, IdentityRules, StreamRules
from store.identity_tables import FALLBACKS, MONEY
from store.loading import load
from store.records import STAGE, of_connection
from store.scalars import decode_fields, encode_fields
from store.tables import IDENTITY, RECORD_TABLES

EXTRA: Final = "extra"
"""The column of all fields of the company's own mapping."""

_CURRENCY: Final = "currency"
_AT_ONCE: Final = 500
_ROWS_AT_ONCE: Final = 5_000

Row: TypeAlias = tuple[Any, ...]


def rebuild(conn: Connection, rules: IdentityRules) -> None:
    """Work everything out from the stored records and identities."""
    for stream in MATCHED_STREAMS:
        conn.execute(delete(FALLBACKS[stream]))
        if rules.of(stream):
            _filling(stream, rules.of(stream)).fill(conn)


def told_anew(conn: Connection, stream: str, rules: StreamRules) -> set[Key]:
    """Records standing for others, as it is stored now, of which a staged page says other things.

    Args:
        conn: on which the page is staged and not yet applied.
        stream: of the records.
        rules: of the stream.
    """
    rows = conn.execute(_told_anew(stream, rules))
    return {ref if canonical is None else canonical for ref, canonical in rows}


@lru_cache(maxsize=16)
def _told_anew(stream: str, rules: StreamRules) -> Select[Any]:
    staged, stored, copy = STAGE[stream], RECORD_TABLES[stream], IDENTITY.alias("copy")
    own = stored.alias("own")
    counting = _filling(stream, rules).what_counts(staged, stored, own)
    has_copies = exists().where(copy.c.stream == stream, copy.c.canonical == staged.c.ref)
    is_copy = IDENTITY.c.canonical.is_not(None)
    return (
        select(staged.c.ref, IDENTITY.c.canonical)
        .select_from(
            staged.outerjoin(stored, stored.c.ref == staged.c.ref)
            .outerjoin(IDENTITY, and_(IDENTITY.c.stream == stream, IDENTITY.c.ref == staged.c.ref))
            .outerjoin(own, own.c.ref == IDENTITY.c.canonical)
        )
        .where(
            staged.c.is_changed,
            # Said first: of most records nothing of the kind differs, and it is known from here.
            or_(*counting.of_any),
            or_(
                and_(is_copy, or_(*counting.of_copies)),
                # Asked last: it is one more look for each.
                and_(~is_copy, or_(*counting.of_its_own), has_copies),
            ),
        )
    )


def renew(
    conn: Connection, stream: str, rules: StreamRules, entities: Iterable[Key]
) -> frozenset[Key]:
    """Work the values of some records out anew, after they and their copies have changed.

    Args:
        conn: in `store.engine.writing`.
        stream: of the records.
        rules: of the stream.
        entities: records that stand, or stood, for others.

    Returns:
        Those that are called otherwise than before.
    """
    kept, filling = FALLBACKS[stream], _filling(stream, rules)
    renamed: set[Key] = set()
    for keys in _portions(sorted(set(entities)), _AT_ONCE):
        query = select(*(kept.c[name] for name in filling.columns)).where(kept.c.ref.in_(keys))
        before: dict[Key, Row] = {row[0]: tuple(row) for row in conn.execute(query)}
        after: dict[Key, Row] = {row[0]: row for row in filling.rows(conn, keys)}
        gone = [ref for ref, row in before.items() if after.get(ref) != row]
        if gone:
            conn.execute(delete(kept).where(kept.c.ref.in_(gone)))
        load(
            conn,
            kept.name,
            filling.columns,
            [row for ref, row in after.items() if before.get(ref) != row],
        )
        if "name" in kept.c:
            place = filling.columns.index("name")
            names = [{ref: row[place] for ref, row in side.items()} for side in (before, after)]
            renamed.update(ref for ref in before | after if names[0].get(ref) != names[1].get(ref))
    return frozenset(renamed)


def sources(conn: Connection, stream: str, rules: StreamRules, entity: Key) -> dict[str, Key]:
    """Field -> the record whose value of it counts for an entity, where it is not its own."""
    return _filling(stream, rules).sources(conn, entity) if rules else {}


def fields_of(stream: str) -> tuple[str, ...]:
    """The canonical fields that may come from a copy, each on its own."""
    beside = {"ref", EXTRA, _CURRENCY}
    return tuple(name for name in FALLBACKS[stream].c.keys() if name not in beside)  # noqa: SIM118 - a collection of columns


class _Filling:
    """Compares records with their copies."""

    def __init__(self, stream: str, rules: StreamRules) -> None:
        self._stream = stream
        self._fields = fields_of(stream)
        self._money = MONEY.get(stream)
        self._rules = rules
        self._preferred = dict(rules.preferred)
        currency = () if self._money is None else (_CURRENCY,)
        extra = (EXTRA,) if rules.mapped else ()
        self.columns: tuple[str, ...] = ("ref", *self._fields, *currency, *extra)
        """That are kept of each."""

    @cached_property
    def _of_chosen(self) -> Select[Any]:
        return self._beside_copies(is_chosen=True)

    def fill(self, conn: Connection) -> None:
        """Add the rows of all records that stand for others."""
        rows = self.rows(conn)
        while portion := list(islice(rows, _ROWS_AT_ONCE)):
            load(conn, FALLBACKS[self._stream].name, self.columns, portion)

    def rows(self, conn: Connection, entities: Sequence[Key] | None = None) -> Iterator[Row]:
        """Values of `columns` for records that stand for others: of these, or of all."""
        if entities is None:
            result = conn.execute(
                self._beside_copies(is_chosen=False), execution_options={"yield_per": _ROWS_AT_ONCE}
            )
        else:
            result = conn.execute(self._of_chosen, {"entities": list(entities)})
        for ref, pairs in groupby(result.mappings(), key=lambda row: row["ref"]):
            values = self._values(list(pairs))
            if values:
                values["ref"] = ref
                yield tuple(values.get(name) for name in self.columns)

    def _beside_copies(self, *, is_chosen: bool) -> Select[Any]:
        """Records beside each copy that may say what they do not, or be asked before them."""
        table = RECORD_TABLES[self._stream]
        own, copy = table.alias("own"), table.alias("copy")
        names = [name for name in self.columns if name != "ref"]
        says_more = [
            and_(own.c[name].is_(None), copy.c[name].is_not(None)) for name in self._fields
        ]
        asked = sorted(set(self._preferred.values()))
        says_more += [of_connection(copy.c.ref, name) for name in asked]
        if self._rules.mapped:
            says_more.append(copy.c.extra.is_not(None))
        keys: BindParameter[str] = bindparam("entities", expanding=True)
        chosen = (IDENTITY.c.canonical.in_(keys),) if is_chosen else ()
        return (
            select(
                IDENTITY.c.canonical.label("ref"),
                copy.c.ref.label("copy_ref"),
                *(own.c[name] for name in names),
                *(copy.c[name].label(f"copy_{name}") for name in names),
            )
            .join_from(IDENTITY, own, own.c.ref == IDENTITY.c.canonical)
            .join(copy, copy.c.ref == IDENTITY.c.ref)
            .where(
                IDENTITY.c.stream == self._stream,
                *chosen,
                *(and_(~one.c.deleted, one.c.merged_into.is_(None)) for one in (own, copy)),
                or_(*says_more),
            )
            .order_by(IDENTITY.c.canonical, IDENTITY.c.ref)
        )

    def sources(self, conn: Connection, entity: Key) -> dict[str, Key]:
        """Field -> the copy that says what counts of it."""
        pairs = list(conn.execute(self._of_chosen, {"entities": [entity]}).mappings())
        if not pairs:
            return {}
        said = _all_said(pairs)
        canonical = self._canonical(said)
        money = canonical.get(self._money or "", said[0])
        found = {**canonical, **self._own(said, money)}
        return {name: one.ref for name, one in found.items() if one is not None}

    def what_counts(self, staged: FromClause, stored: FromClause, own: FromClause) -> _WhatCounts:
        """What of a record may differ so that other values of copies count.

        Of what it says itself it matters only whether it says anything; what a copy says matters
        where the record says nothing, or is not asked first.

        Args:
            staged: as the record will be.
            stored: as it was.
            own: of a copy, the record that it is a copy of.
        """
        either: list[ColumnElement[bool]] = [stored.c.ref.is_(None)]
        either += [
            staged.c[name].is_distinct_from(stored.c[name]) for name in ("deleted", "merged_into")
        ]
        if self._rules.mapped:
            either.append(staged.c[EXTRA].is_distinct_from(stored.c[EXTRA]))
        if self._rules.money and self._money is not None:
            either.append(staged.c[_CURRENCY].is_distinct_from(stored.c[_CURRENCY]))
        of_any, of_its_own, of_copies = list(either), list(either), list(either)
        for name in self._fields:
            says = staged.c[name].is_not(None) == stored.c[name].is_not(None)
            of_its_own.append(~says)
            differs = staged.c[name].is_distinct_from(stored.c[name])
            if name == self._money:
                differs = or_(differs, staged.c[_CURRENCY].is_distinct_from(stored.c[_CURRENCY]))
            of_any.append(differs)
            is_asked = name in self._preferred
            of_copies.append(differs if is_asked else and_(own.c[name].is_(None), differs))
        return _WhatCounts(of_any, of_its_own, of_copies)

    # ---- one record

    def _values(self, pairs: Sequence[RowMapping]) -> dict[str, Any]:
        """Field -> value of a copy, where that counts."""
        said = _all_said(pairs)
        sources = self._canonical(said)
        found = {name: source.value(name) for name, source in sources.items()}
        money = sources.get(self._money or "")
        if money is not None:
            found[_CURRENCY] = money.value(_CURRENCY)
        own = self._own(said, money or said[0])
        if own:
            mixed = {
                **said[0].own_fields,
                **{
                    name: None if one is None else one.own_fields[name] for name, one in own.items()
                },
            }
            known = {name: value for name, value in mixed.items() if value is not None}
            found[EXTRA] = encode_fields(known) or "{}"
        return found

    def _canonical(self, said: Sequence[_Said]) -> dict[str, _Said]:
        """Canonical field -> the copy that it comes from."""
        found: dict[str, _Said] = {}
        for name in self._fields:
            asked = self._asked(name, said)
            source = next((one for one in asked if one.value(name) is not None), said[0])
            if source is not said[0]:
                found[name] = source
        return found

    def _own(self, said: Sequence[_Said], money: _Said) -> dict[str, _Said | None]:
        """Own field -> the copy that it comes from; None: from nobody, not even the record.

        Args:
            said: the record and its copies.
            money: in whose currency all amounts are read.
        """
        found: dict[str, _Said | None] = {}
        currency = self._currency_of(money)
        for name in self._rules.mapped:
            is_money = name in self._rules.money
            source = next(
                (
                    one
                    for one in self._asked(name, said)
                    if one.own_fields.get(name) is not None
                    and (not is_money or self._currency_of(one) == currency)
                ),
                None,
            )
            # Read in another currency than its own an amount would be another one.
            if source is None and not (is_money and name in said[0].own_fields):
                continue
            if source is not said[0]:
                found[name] = source
        return found

    def _currency_of(self, one: _Said) -> str:
        found = None if self._money is None else one.value(_CURRENCY)
        return str(found or self._rules.currency)

    def _asked(self, name: str, said: Sequence[_Said]) -> Sequence[_Said]:
        """In the order in which they are asked for a field."""
        wanted = self._preferred.get(name)
        # Stable: the record itself goes first, unless another connection is asked before.
        return said if wanted is None else sorted(said, key=lambda one: one.connection != wanted)


@dataclass(frozen=True, slots=True)
class _WhatCounts:
    """Conditions, any of which makes other values of copies count."""

    of_any: Sequence[ColumnElement[bool]]
    """Of any record, without knowing whether it has copies or is one: without one of these none of
    the others holds."""
    of_its_own: Sequence[ColumnElement[bool]]
    """Of a record with copies."""
    of_copies: Sequence[ColumnElement[bool]]


class _Said:
    """What one record says."""

    __slots__ = ("_own", "_prefix", "_row", "connection", "ref")

    def __init__(self, ref: Key, row: RowMapping, prefix: str) -> None:
        self.ref = ref
        self.connection = ref.partition(":")[0]
        self._row = row
        self._prefix = prefix
        self._own: Mapping[str, Scalar] | None = None

    @property
    def own_fields(self) -> Mapping[str, Scalar]:
        """Of the company's own mapping."""
        if self._own is None:
            self._own = decode_fields(self._row[f"{self._prefix}{EXTRA}"])
        return self._own

    def value(self, name: str) -> Any:
        """Of a canonical field, as it is stored."""
        return self._row[f"{self._prefix}{name}"]


@lru_cache(maxsize=16)
def _filling(stream: str, rules: StreamRules) -> _Filling:
    # Composed once: composing the statement takes as long as running it for a page.
    return _Filling(stream, rules)


def _all_said(pairs: Sequence[RowMapping]) -> list[_Said]:
    """What a record says, and after it its copies."""
    return [
        _Said(pairs[0]["ref"], pairs[0], ""),
        *(_Said(pair["copy_ref"], pair, "copy_") for pair in pairs),
    ]


_T = TypeVar("_T")


def _portions(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    remaining = iter(items)
    while portion := list(islice(remaining, size)):
        yield portion

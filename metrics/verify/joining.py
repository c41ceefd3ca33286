"""Which records of several CRMs are one, worked out once more: by looking at all of them.

Nothing here is shared with what links records page by page but the rules, the decisions, and the
lists of words: no index, no neighbourhoods. Every record is in a set; sets are poured together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import idna

from store.canonical import CanonicalRecord, Contact, Key, Scalar
from store.decisions import DatedDecision
from store.identity_evidence import FREE_MAIL, LEGAL_FORMS, ROLES, SHARED_SITES
from store.identity_rules import NATIVE_ID, MatchRule, StreamRules
from store.scalars import encode

if TYPE_CHECKING:
    from tldextract import TLDExtract

_MOST: Final = 20
_LONGEST: Final = 250
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@lru_cache(maxsize=1)
def _list_of_suffixes() -> TLDExtract:
    # It brings an HTTP client along: a fifth of a second at the start of each command.
    import tldextract  # noqa: PLC0415

    return tldextract.TLDExtract(
        cache_dir=None, suffix_list_urls=(), include_psl_private_domains=True
    )


def joined(
    records: Iterable[CanonicalRecord], rules: StreamRules, decisions: Sequence[DatedDecision]
) -> dict[Key, Key]:
    """Record -> the one that stands for it, where that is another one.

    Args:
        records: all of a stream that several CRMs may hold.
        rules: of the stream.
        decisions: what people said of its records.
    """
    everybody = {record.ref.key: record for record in records}
    return _Joiner(everybody, rules, decisions).work_out()


class _Joiner:
    def __init__(
        self,
        everybody: Mapping[Key, CanonicalRecord],
        rules: StreamRules,
        decisions: Sequence[DatedDecision],
    ) -> None:
        self._everybody = everybody
        self._rules = rules
        self._decisions = decisions
        self._set_of: dict[Key, set[Key]] = {}
        self._strangers: list[tuple[Key, Key]] = []

    def work_out(self) -> dict[Key, Key]:
        self._hear_people()
        for rule in self._rules.rules:
            by_value: dict[str, list[Key]] = defaultdict(list)
            for key, record in self._everybody.items():
                value = self._value(record, rule)
                if value is not None and self._lives(self._winner(key)):
                    by_value[value].append(key)
            for value in sorted(by_value):
                if rule.is_by_id:
                    self._take_up_id(rule, sorted(by_value[value]))
                else:
                    self._take_up(rule, value, sorted(by_value[value]))
        return dict(self._outcome())

    def _hear_people(self) -> None:
        newest = sorted(
            self._decisions, key=lambda one: (-one.decided_at.timestamp(), one.one, one.other)
        )
        for is_same in (False, True):
            for said in newest:
                one, other = self._winner(said.one), self._winner(said.other)
                if said.is_same != is_same or one == other:
                    continue
                if self._lives(one) and self._lives(other):
                    if is_same:
                        self._pour(one, other)
                    else:
                        self._strangers.append((one, other))

    # ---- one value

    def _take_up_id(self, rule: MatchRule, keys: Sequence[Key]) -> None:
        for key in keys:
            if rule.field_of(_crm(key)) == NATIVE_ID:
                for other in keys:
                    self._pour(self._winner(key), self._winner(other))

    def _take_up(self, rule: MatchRule, value: str, keys: Sequence[Key]) -> None:
        if len(keys) > _MOST:
            return
        sets: dict[str, set[int]] = defaultdict(set)
        for key in keys:
            sets[_crm(key)].add(id(self._set(self._winner(key))))
        is_crowded = any(len(some) > 1 for some in sets.values())
        for place_of_one, one in enumerate(keys):
            for other in keys[place_of_one + 1 :]:
                if _crm(one) == _crm(other):
                    continue
                sure = 400 if is_crowded else self._sureness(rule, value, one, other)
                if sure >= self._rules.review_below:
                    self._pour(self._winner(one), self._winner(other))

    def _sureness(self, rule: MatchRule, value: str, one: Key, other: Key) -> int:
        names = [
            getattr(self._everybody[self._winner(key)], "name", None) or "" for key in (one, other)
        ]
        if rule.kind == "same":
            return 980
        is_of_somebody = rule.kind != "email" or value.partition("@")[0] not in ROLES
        if rule.kind == "key" or (rule.kind == "email" and is_of_somebody):
            return 950
        alike = _alikeness(*names)
        if rule.kind == "email":
            return 550 if alike == 600 else 950  # noqa: PLR2004 - names that have nothing in common
        return alike

    def _value(self, record: CanonicalRecord, rule: MatchRule) -> str | None:
        field = rule.field_of(record.ref.connection)
        if field is None or _is_out(record):
            return None
        if field == NATIVE_ID:
            found: Scalar = record.ref.native_id
        elif _merged_into(record) is not None:
            return None
        elif field in type(record).__dataclass_fields__:
            found = getattr(record, field)
        else:
            found = record.extra.get(field)
        if found is None:
            return None
        text = found if isinstance(found, str) else encode(_plain(found)).strip('"')
        value = _COMPARED[rule.kind](rule, text)
        if value is None or value in rule.ignore or len(value) > _LONGEST:
            return None
        return value

    # ---- sets

    def _set(self, key: Key) -> set[Key]:
        return self._set_of.setdefault(key, {key})

    def _pour(self, one: Key, other: Key) -> None:
        first, second = self._set(one), self._set(other)
        if first is second:
            return
        for a, b in self._strangers:
            if (a in first and b in second) or (b in first and a in second):
                return
        first |= second
        for key in second:
            self._set_of[key] = first

    def _outcome(self) -> Iterable[tuple[Key, Key]]:
        for key in {*self._everybody, *self._set_of}:
            winner = self._winner(key)
            first = min(self._set(winner), key=self._rank)
            if first != key:
                yield key, first

    def _rank(self, key: Key) -> tuple[bool, datetime, Key]:
        record = self._everybody.get(key)
        created = None if record is None else record.created_at
        return self._rules.connections[:1] != (_crm(key),), created or _LAST, key

    # ---- merges

    def _winner(self, key: Key) -> Key:
        path = [key]
        while True:
            record = self._everybody.get(path[-1])
            into = None if record is None else _merged_into(record)
            if into is None:
                return path[-1]
            if into in path:
                return min(path[path.index(into) :])
            path.append(into)

    def _lives(self, key: Key) -> bool:
        record = self._everybody.get(key)
        return record is None or not _is_out(record)


def _merged_into(record: CanonicalRecord) -> Key | None:
    """The winner; a person who is folded into an account stays a person."""
    if isinstance(record, Contact) and record.merged_into == record.account:
        return None
    return record.merged_into


def _is_out(record: CanonicalRecord) -> bool:
    is_folded = isinstance(record, Contact) and record.merged_into == record.account is not None
    return record.deleted and _merged_into(record) is None and not is_folded


def _crm(key: Key) -> str:
    return key.split(":", 1)[0]


def _plain(value: Scalar) -> Scalar:
    return value.normalize() if isinstance(value, Decimal) else value


# ---------------------------------------------------------------- what is compared


def _domain(_: MatchRule, text: str) -> str | None:
    address = text.strip().strip("<>\"'").lower().removeprefix("mailto:")
    if "//" in address:
        scheme, rest = address.split("//", 1)
        address = (
            rest.lstrip("/")
            if scheme in {"", "http:", "https:"} or scheme.endswith(":")
            else address
        )
    for end in "/?#\\,; \t\n":
        address = address.split(end, 1)[0]
    host = address.rsplit("@", 1)[-1].split(":", 1)[0].strip(".")
    if "." not in host or len(host) > 253 or not all(host.split(".")):  # noqa: PLR2004 - of DNS
        return None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            return None
    parts = _list_of_suffixes().extract_str(host)
    if parts.ipv4:
        return None
    if parts.suffix:
        registered = f"{parts.domain}.{parts.suffix}".lower() if parts.domain else None
    else:
        registered = ".".join(host.split(".")[-2:])
    return None if registered in FREE_MAIL or registered in SHARED_SITES else registered


def _email(rule: MatchRule, text: str) -> str | None:
    address = text.strip().strip("<>").casefold()
    if re.fullmatch(r"[^@\s]+@[^@\s]*\.[^@\s]*", address) is None:
        return None
    return None if address.split("@")[1] in rule.ignore else address


def _id(rule: MatchRule, text: str) -> str | None:
    value = text.strip()
    if not rule.has_salesforce_ids or len(value) not in {15, 18}:
        return value or None
    short = value[:15]
    suffix = ""
    for part in (short[:5], short[5:10], short[10:]):
        bits = "".join("1" if "A" <= letter <= "Z" else "0" for letter in reversed(part))
        suffix += "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[int(bits, 2)]
    return short + suffix


def _own(_: MatchRule, text: str) -> str | None:
    return re.sub(r"\s", "", text).casefold() or None


_COMPARED: Final[Mapping[str, Callable[[MatchRule, str], str | None]]] = {
    "domain": _domain,
    "email": _email,
    "same": _id,
    "key": _own,
}


# ---------------------------------------------------------------- names


def _alikeness(one: str, other: str) -> int:
    a, b = _telling(one), _telling(other)
    if not a or not b:
        return 800
    if sorted(set(a)) == sorted(set(b)) or "".join(a) == "".join(b):
        return 950
    if set(a).issubset(b) or set(b).issubset(a):
        return 900
    for short, long in ((a, b), (b, a)):
        if len(short) == 1 and len(long) > 1 and short[0] == "".join(w[:1] for w in long):
            return 850
    return 800 if {w for w in a if len(w) >= 3} & set(b) else 600  # noqa: PLR2004 - no "of"


@lru_cache(maxsize=20_000)
def _telling(name: str) -> tuple[str, ...]:
    letters = unicodedata.normalize("NFKD", name.replace("ß", "ss")).casefold()
    plain = "".join(c for c in letters if not unicodedata.combining(c) and c not in ".'")
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    return tuple(w for w in words if w not in LEGAL_FORMS) or tuple(words)

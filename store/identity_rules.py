"""By what records of several CRMs are recognised as one: the rules, and their names for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from store.canonical import Key

ACCOUNTS: Final = "accounts"
CONTACTS: Final = "contacts"
DEALS: Final = "deals"
MATCHED_STREAMS: Final = (ACCOUNTS, CONTACTS, DEALS)
"""Streams whose records can be matched across connections by rules."""

ALWAYS_KEPT: Final = frozenset({ACCOUNTS, CONTACTS})
"""Of these it is known without any rule who stands for whom: CRMs merge them."""

EVERY_CONNECTION: Final = "*"
NATIVE_ID: Final = ""
"""In place of a field: the record's own id in its CRM."""

MOST_HOLDERS: Final = 20
"""A value that more records hold proves nothing."""

Kind: TypeAlias = Literal["same", "domain", "email", "key"]


@dataclass(frozen=True, slots=True)
class MatchRule:
    """One rule; two records that hold the same value by it may be one."""

    kind: Kind
    words: str
    """As it is written: ``same hubspot.salesforceaccountid = salesforce.Id``."""
    fields: tuple[tuple[str, str], ...]
    """Connection (`EVERY_CONNECTION`: all of them) and the field that holds the value:
    `NATIVE_ID`, a canonical field, or an own mapped one."""
    ignore: frozenset[str] = frozenset()
    """Values that prove nothing, as they are compared."""
    has_salesforce_ids: bool = False
    """Whether the values are ids of Salesforce, of 15 or 18 characters."""

    @property
    def is_by_id(self) -> bool:
        """Whether one side is a record's own id: no guess, then."""
        return any(name == NATIVE_ID for _, name in self.fields)

    def field_of(self, connection: str) -> str | None:
        """The field that a connection's records hold the value in; None: in none."""
        return next(
            (held for name, held in self.fields if name in (connection, EVERY_CONNECTION)), None
        )


@dataclass(frozen=True, slots=True)
class StreamRules:
    """How records of one stream are recognised, and whose values count."""

    rules: tuple[MatchRule, ...] = ()
    """In their order: what an earlier one has joined, a later one takes for one record."""
    connections: tuple[str, ...] = ()
    """The preferred one first; the others are equal."""
    review_below: int = 750
    """Thousandths of certainty; a match below waits for a person."""
    preferred: tuple[tuple[str, str], ...] = ()
    """Field, and the connection whose value of it counts first."""
    mapped: frozenset[str] = frozenset()
    """Fields of the company's own mapping; what rules alone compare is none of them."""
    money: frozenset[str] = frozenset()
    """Of these, amounts in the record's currency."""
    currency: str = ""
    """The company's: that of records without one."""

    def __bool__(self) -> bool:
        """Whether anything is matched."""
        return bool(self.rules)

    def rank(self, connection: str) -> int:
        """Place of a connection: whose record stands for the entity."""
        return 0 if self.connections[:1] == (connection,) else 1


NO_STREAM_RULES: Final = StreamRules()


@dataclass(frozen=True, slots=True)
class IdentityRules:
    """What is matched across connections; without rules nothing is."""

    streams: Mapping[str, StreamRules] = field(default_factory=dict)
    owners_by_email: bool = False

    def of(self, stream: str) -> StreamRules:
        """The rules of one stream."""
        return self.streams.get(stream, NO_STREAM_RULES)

    @property
    def fingerprint(self) -> str:
        """Everything that who stands for whom depends on beside records and decisions."""
        return repr(
            [
                self.owners_by_email,
                *(
                    (
                        stream,
                        [
                            (one.kind, one.fields, sorted(one.ignore), one.has_salesforce_ids)
                            for one in rules.rules
                        ],
                        rules.connections[:1],
                        rules.review_below,
                        sorted(rules.preferred),
                        sorted(rules.mapped),
                        sorted(rules.money),
                        rules.currency if rules.money else "",
                    )
                    for stream, rules in sorted(self.streams.items())
                    if rules
                ),
            ]
        )


NO_RULES: Final = IdentityRules()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said of two records."""

    stream: str
    one: Key
    other: Key
    is_same: bool

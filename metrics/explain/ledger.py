"""What every record of one group adds, noted record by record instead of summed up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

from metrics.verify.book import Book, Dimensions, Grouping, Number, key_of

OF_ACCOUNTS: Final = frozenset({"buyers", "upsells", "active", "contracts"})
"""Subjects in which an account counts once, however many records of it there are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a record says of a subject."""

    subject: str
    record: str
    """Stream and key, as `metrics.verify.reading.named` writes them."""
    account: str | None
    day: date | None
    figures: Mapping[str, Number]
    write: partial[None]
    """Says it again to a book."""

    @property
    def said(self) -> tuple[object, ...]:
        """What it says; equal ones say the same."""
        return self.record, self.write.func, self.write.args


class Ledger(Book):
    """A book that keeps what it is told of one group, in the order it was told."""

    def __init__(self, grouping: Grouping, key: str) -> None:
        """Begin an empty one.

        Args:
            grouping: what the group is one of.
            key: the group.
        """
        super().__init__({})
        self._grouping = grouping
        self._key = key
        self.entries: list[Entry] = []

    def add(
        self, subject: str, day: date | None, dimensions: Dimensions, **figures: Number
    ) -> None:
        """Note a record's figures."""
        again = partial(_add, subject, day, dimensions, figures)
        self._note(subject, day, dimensions, figures, again)

    def value(self, subject: str, day: date | None, dimensions: Dimensions, value: Number) -> None:
        """Note a value whose rank counts."""
        again = partial(_value, subject, day, dimensions, value)
        self._note(subject, day, dimensions, {}, again)

    def member(
        self, subject: str, day: date | None, dimensions: Dimensions, name: str, **flags: int
    ) -> None:
        """Note somebody who counts once."""
        again = partial(_member, subject, day, dimensions, name, flags)
        self._note(subject, day, dimensions, {}, again)

    def unit(self, subject: str, dimensions: Dimensions, name: str, item: object) -> None:
        """Note something of a unit that is looked at as a whole."""
        again = partial(_unit, subject, dimensions, name, item)
        self._note(subject, None, dimensions, {}, again)

    def _note(
        self,
        subject: str,
        day: date | None,
        dimensions: Dimensions,
        figures: Mapping[str, Number],
        write: partial[None],
    ) -> None:
        if key_of([dimensions.get(name) for name in self._grouping]) != self._key:
            return
        record, account = dimensions["record"], dimensions.get("account")
        if record is None:
            raise ValueError(f"nobody says which record of {subject} this is")
        self.entries.append(Entry(subject, record, account, day, figures, write))


def _add(
    subject: str,
    day: date | None,
    dimensions: Dimensions,
    figures: Mapping[str, Number],
    book: Book,
) -> None:
    book.add(subject, day, dimensions, **figures)


def _value(
    subject: str, day: date | None, dimensions: Dimensions, value: Number, book: Book
) -> None:
    book.value(subject, day, dimensions, value)


def _member(  # noqa: PLR0917 - what a member is
    subject: str,
    day: date | None,
    dimensions: Dimensions,
    name: str,
    flags: Mapping[str, int],
    book: Book,
) -> None:
    book.member(subject, day, dimensions, name, **flags)


def _unit(subject: str, dimensions: Dimensions, name: str, item: object, book: Book) -> None:
    book.unit(subject, dimensions, name, item)


def told_again(
    entries: Iterable[Entry], subjects: Iterable[str], groupings: Iterable[Grouping]
) -> Book:
    """A book of these entries alone."""
    book = Book(dict.fromkeys(subjects, tuple(groupings)))
    for entry in entries:
        entry.write(book)
    return book


def by_unit(entries: Iterable[Entry], subjects: Iterable[str]) -> dict[str, list[Entry]]:
    """The entries of each record, or of each account where accounts are what counts."""
    wanted = frozenset(subjects)
    are_accounts = not wanted.isdisjoint(OF_ACCOUNTS)
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.subject in wanted:
            is_of_account = are_accounts and entry.account is not None
            found[f"accounts {entry.account}" if is_of_account else entry.record].append(entry)
    return found

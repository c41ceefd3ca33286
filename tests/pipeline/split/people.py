"""Who is one with whom in two CRMs, found without the product."""

from __future__ import annotations

from tests.pipeline.split.crms import FIRST, SECOND, Company, Link, Seen

Groups = dict[str, list[Seen]]
"""Key of any record -> the records it is one with, the one that stands for all first."""


class Identities:
    """The customers, people and deals of a company that stands in two CRMs."""

    def __init__(
        self, company: Company, apart: set[frozenset[str]], together: set[frozenset[str]]
    ) -> None:
        self._company = company
        self._apart, self._together = apart, together
        self._groups = {
            "accounts": self._grouped("accounts", "domain"),
            "contacts": self._grouped("contacts", "email"),
            "deals": self._grouped("deals", None),
        }

    def head(self, link: Link | None) -> Link | None:
        """The record that stands for the linked one; None: there is none."""
        if link is None:
            return None
        record = self._company.get((link.stream, link.key))
        while record is not None and record.merged_into is not None:
            record = self._company.get((link.stream, record.merged_into))
        if record is None or record.is_gone:
            return None
        if link.stream not in self._groups:
            return Link(link.stream, record.key)
        return Link(link.stream, self._groups[link.stream][record.key][0].key)

    def all_of(self, record: Seen) -> list[Seen]:
        """The records that are one with this one, which is alive; the head first."""
        return self._groups[record.stream][record.key]

    def _grouped(self, stream: str, by_value: str | None) -> Groups:
        alive = [it for it in self._company.values() if it.stream == stream and it.is_alive]
        sets = _Sets([it.key for it in alive], self._decided(stream, self._apart))
        for pair in sorted(sorted(it) for it in self._decided(stream, self._together)):
            sets.join(*pair)
        for it in alive:
            if twin := self._survivor(stream, it.proofs.get("twin")):
                sets.join(it.key, twin)
        holders: dict[str, list[str]] = {}
        for it in alive:
            if by_value is not None and by_value in it.proofs:
                holders.setdefault(it.proofs[by_value], []).append(it.key)
        for _, keys in sorted(holders.items()):
            sets.join_if_clear(keys)
        by_key = {it.key: it for it in alive}
        return {
            key: sorted((by_key[one] for one in members), key=_precedence)
            for key, members in sets.of.items()
        }

    def _decided(self, stream: str, pairs: set[frozenset[str]]) -> list[frozenset[str]]:
        """What was decided of accounts holds for those that they were merged into."""
        if stream != "accounts":
            return []
        found = [frozenset(str(self._survivor(stream, key)) for key in pair) for pair in pairs]
        return [pair for pair in found if len(pair) > 1]

    def _survivor(self, stream: str, key: str | None) -> str | None:
        record = self._company.get((stream, key or ""))
        while record is not None and record.merged_into is not None:
            record = self._company.get((stream, record.merged_into))
        return None if record is None else record.key


def _precedence(record: Seen) -> tuple[bool, str, str]:
    """Salesforce is preferred, and of several records the oldest."""
    return record.crm != FIRST, record.created, record.key


class _Sets:
    """Records that are one with each other, as far as is known; of those that are alive."""

    def __init__(self, keys: list[str], apart: list[frozenset[str]]) -> None:
        self.of = {key: {key} for key in keys}
        self._apart = apart

    def join(self, one: str, other: str) -> None:
        if one in self.of and other in self.of and self._may(self.of[one], self.of[other]):
            together = self.of[one] | self.of[other]
            for key in together:
                self.of[key] = together

    def join_if_clear(self, keys: list[str]) -> None:
        """Two records of one CRM with one value do not say which of them is meant."""
        sides = [
            {id(self.of[key]) for key in keys if key.startswith(f"{crm}:")}
            for crm in (FIRST, SECOND)
        ]
        if all(len(side) == 1 for side in sides):
            for key in keys[1:]:
                self.join(keys[0], key)

    def _may(self, one: set[str], other: set[str]) -> bool:
        return one is not other and not any(pair & one and pair & other for pair in self._apart)

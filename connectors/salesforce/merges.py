"""Merged records, remembered until those that point to them have been read again.

A merge gives the loser's children to the winner. Salesforce does not promise that this moves the
children's change times, so an increment of theirs may never show it: they are asked for by the
winner's id. Page: SOAP API Developer Guide, "merge()".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from connectors.base import Notes

KEPT: Final = timedelta(days=15)
"""How long a merge is remembered; the loser leaves the bin after that, too."""
_MOST: Final = 5_000
"""Winners remembered; more merges than that are a clean-up, after which people read
everything again."""


class Merges:
    """The latest merges of one org, shared by all its streams.

    Args:
        notes: Where they outlive this process; None: they do not.
    """

    def __init__(self, notes: Notes | None) -> None:
        self._notes = notes
        self._here: dict[str, str] = {}

    def add(self, object_name: str, winners: Iterable[str], *, seen_at: datetime) -> None:
        """Remember that records of an object took others in."""
        kept = self._kept(object_name)
        oldest = seen_at - KEPT
        kept = {winner: at for winner, at in kept.items() if at >= oldest}
        kept.update(dict.fromkeys(winners, seen_at))
        latest = sorted(kept.items(), key=lambda each: each[1])[-_MOST:]
        self._keep(object_name, json.dumps({winner: at.isoformat() for winner, at in latest}))

    def since(self, object_name: str, begin: datetime) -> list[str]:
        """Ids of winners whose merges were seen from an instant on."""
        return sorted(winner for winner, at in self._kept(object_name).items() if at >= begin)

    def _kept(self, object_name: str) -> dict[str, datetime]:
        name = _name(object_name)
        text = self._here.get(name) if self._notes is None else self._notes.get(name)
        try:
            found = json.loads(text or "{}")
            return {str(winner): datetime.fromisoformat(at) for winner, at in found.items()}
        except (ValueError, TypeError, AttributeError):
            return {}

    def _keep(self, object_name: str, text: str) -> None:
        if self._notes is None:
            self._here[_name(object_name)] = text
        else:
            self._notes.put(_name(object_name), text)


def _name(object_name: str) -> str:
    return f"merged:{object_name}"

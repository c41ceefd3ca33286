"""Associations: to which records records are linked, with their labels, however many there are.

Answers are paged for each record by itself. A record without links is an error entry of a 207
that says so; any other entry leaves its links unknown.
https://developers.hubspot.com/docs/api-reference/crm-associations-v4/guide
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from connectors.errors import MalformedAnswer
from connectors.hubspot.client import LINKS_LIMIT, Answer, HubSpotClient, Json
from connectors.hubspot.faults import Entry, entries_of
from connectors.hubspot.minimum import Minimum

NOT_FOUND: Final = "OBJECT_NOT_FOUND"
NO_LINKS: Final = "crm.associations.NO_ASSOCIATIONS_FOUND"

PRIMARY_LABEL: Final = "Primary"
_PRIMARY_TYPES: Final = frozenset({1, 5, 26})
"""HubSpot's own ids of "primary company" of a contact, a deal, a ticket."""

_ANY_ID: Final = "1"
"""Asking for the links of a record that need not exist shows whether one may ask."""


@dataclass(frozen=True, slots=True)
class Link:
    """One record that another one is linked to."""

    id: str
    is_primary: bool = False
    label: str | None = None
    """The first of the labels that people gave this link, in their alphabet."""


Links = Sequence[Link]


@dataclass(slots=True)
class Linked:
    """To which records of one object each one is linked."""

    known: dict[str, tuple[Link, ...]] = field(default_factory=dict)
    """Id -> its links in the order of their ids; none where HubSpot says so."""
    unread: dict[str, str] = field(default_factory=dict)
    """Id -> why nothing certain is known about its links."""


def best(links: Links) -> str | None:
    """The id of the one that counts: the primary one, else the lowest id; always the same."""
    return min(links, key=lambda one: (not one.is_primary, int(one.id))).id if links else None


def read_links(
    client: HubSpotClient,
    from_object: str,
    to_object: str,
    ids: Sequence[str],
    minimum: Minimum | None = None,
) -> Linked:
    """Read the links of `ids`; all pages of each."""
    linked = Linked()
    found: dict[str, dict[str, Link]] = {}
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), LINKS_LIMIT):
        pending: list[Json] = [{"id": one} for one in unique[start : start + LINKS_LIMIT]]
        visited: set[tuple[str, str]] = set()

        def is_sound(answer: Answer, visited: AbstractSet[tuple[str, str]] = visited) -> bool:
            return is_settled(answer) and _circling(answer, visited) is None

        while pending:
            answer = client.links(from_object, to_object, pending, is_sound)
            circling = _circling(answer, visited)
            if circling is not None:
                raise MalformedAnswer(
                    client.connection, f"HubSpot's pages of the links of {circling} go in a circle."
                )
            if minimum is not None:
                minimum.add(f"links of {from_object} to {to_object}", len(pending), LINKS_LIMIT)
            _note(answer, {str(item["id"]) for item in pending}, found, linked)
            pending = _next_pages(answer)
            visited.update((str(item["id"]), str(item["after"])) for item in pending)
    for record_id, links in found.items():
        if record_id not in linked.unread:
            linked.known[record_id] = tuple(sorted(links.values(), key=lambda one: int(one.id)))
    return linked


def try_links(client: HubSpotClient, from_object: str, to_object: str) -> None:
    """Ask whether links between two objects may be read.

    Raises:
        PermissionMissing: the token lacks a scope.
        RequestRefused: there are no such links.
    """
    client.links(from_object, to_object, [{"id": _ANY_ID}], lambda _: True)


def is_settled(answer: Answer) -> bool:
    """Every error in a batch answer is a plain "there is none"."""
    return all(
        entry.category == NOT_FOUND or entry.sub_category == NO_LINKS
        for entry in entries_of(answer.content)
    )


def ids_of(entry: Entry) -> Iterator[str]:
    """The records that an error is about."""
    for name in ("fromObjectId", "ids", "id", "objectId"):
        yield from entry.context.get(name, ())


def _circling(answer: Answer, visited: AbstractSet[tuple[str, str]]) -> str | None:
    """A record whose pages of links lead back to where they have been."""
    for result in answer.results:
        from_id, after = str(result["from"]["id"]), _after(result)
        if after is not None and (from_id, after) in visited:
            return from_id
    return None


def _note(
    answer: Answer,
    asked: AbstractSet[str],
    found: dict[str, dict[str, Link]],
    linked: Linked,
) -> None:
    answered = set()
    for result in answer.results:
        from_id = str(result["from"]["id"])
        answered.add(from_id)
        links = found.setdefault(from_id, {})
        links.update(
            (str(target["toObjectId"]), _link(target)) for target in result.get("to") or ()
        )
    for entry in entries_of(answer.content):
        for from_id in ids_of(entry):
            answered.add(from_id)
            if entry.sub_category == NO_LINKS:
                found.setdefault(from_id, {})
            else:
                linked.unread[from_id] = entry.message or entry.category
    for from_id in asked - answered:
        linked.unread[from_id] = "it leaves the record out of its answer about links."


def _link(target: Json) -> Link:
    types = target.get("associationTypes") or ()
    return Link(str(target["toObjectId"]), any(map(_is_primary, types)), _label(types))


def _is_primary(kind: Json) -> bool:
    return kind.get("category") == "HUBSPOT_DEFINED" and (
        kind.get("label") == PRIMARY_LABEL or kind.get("typeId") in _PRIMARY_TYPES
    )


def _label(kinds: Sequence[Json]) -> str | None:
    labels = [str(one["label"]) for one in kinds if one.get("label")]
    return min((one for one in labels if one != PRIMARY_LABEL), default=None)


def _next_pages(answer: Answer) -> list[Json]:
    """Paging is per record: who has more links is asked again from there."""
    return [
        {"id": str(result["from"]["id"]), "after": after}
        for result in answer.results
        if (after := _after(result)) is not None
    ]


def _after(result: Json) -> str | None:
    paging = result.get("paging")
    if not paging:
        return None
    after = (paging.get("next") or {}).get("after")
    return str(after) if after not in (None, "") else None

"""Writing KPI values and reading them back.

A batch answer is in any order; every input carries a trace id of its own, without which one bad
input would sink its batch. Whatever the answer does not account for is unknown, never written.
https://developers.hubspot.com/docs/api-reference/crm-objects-v3/guide
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from connectors.base import LiveRecord, PushOutcome, PushResult
from connectors.errors import (
    ConnectorError,
    CrmUnavailable,
    MalformedAnswer,
)
from connectors.hubspot.client import WRITE_LIMIT, Answer, HubSpotClient
from connectors.hubspot.faults import AnswerLost, Entry, Refused, entries_of
from connectors.hubspot.fields import (
    Property,
    decoded,
    is_echoed,
    written,
)
from connectors.hubspot.links import NOT_FOUND
from connectors.hubspot.reading import chunks, fetch
from store.canonical import FieldUpdate

Values: TypeAlias = dict[str, str]
"""Property -> its text."""

_REFUSED: Final = "VALIDATION_ERROR"
_VALIDATION: Final = frozenset({_REFUSED, "CONFLICT", "OBJECT_ALREADY_EXISTS"})
_FOR_ALL: Final = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})
"""Faults of a property, whichever record is written."""

_MOST_CALLS: Final = 30
"""Spent on one batch that is refused again and again, until the rest is parked."""
_TRIED_ALONE: Final = 3
_FEW: Final = 8
"""Records for which halving costs hardly more than trying some alone."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: PushOutcome
    code: str | None = None
    message: str | None = None


_WRITTEN: Final = _Verdict(PushOutcome.WRITTEN)


def push(
    client: HubSpotClient,
    updates: Sequence[FieldUpdate],
    *,
    batch: int | None,
    described: Mapping[str, Mapping[str, Property]],
) -> list[PushResult]:
    """Write values; one result for each update, in their order.

    Args:
        client: The connection.
        updates: What to write; several fields of a record travel together.
        batch: Records a call; None: as many as HubSpot takes.
        described: Object -> its properties, as far as somebody has looked at them.

    Raises:
        ConnectorError: the connection as a whole cannot write, and nothing was written.
    """
    writing = _Writing(client, described)
    for object_name, records in _by_object(updates, described).items():
        for part in chunks(list(records), min(batch or WRITE_LIMIT, WRITE_LIMIT)):
            writing.begin(object_name, {record_id: records[record_id] for record_id in part})
    return [
        PushResult(
            update=update,
            outcome=verdict.outcome,
            code=verdict.code,
            message=verdict.message,
        )
        for update in updates
        for verdict in (writing.verdicts[update.object, update.record_id, update.field],)
    ]


def _by_object(
    updates: Iterable[FieldUpdate], described: Mapping[str, Mapping[str, Property]]
) -> dict[str, dict[str, Values]]:
    """Each record once: one that stands twice in a batch has HubSpot refuse all of it."""
    grouped: dict[str, dict[str, Values]] = {}
    for update in updates:
        record = grouped.setdefault(update.object, {}).setdefault(update.record_id, {})
        known = described.get(update.object, {}).get(update.field)
        record[update.field] = written(update.value, known)
    return grouped


@dataclass(slots=True)
class _Writing:
    """One push under way: what became of each (object, record, property)."""

    client: HubSpotClient
    described: Mapping[str, Mapping[str, Property]]
    verdicts: dict[tuple[str, str, str], _Verdict] = field(default_factory=dict)
    halted: _Verdict | None = None
    """Why nothing more is sent, after something was."""
    calls: int = 0
    """Made for the present batch."""
    has_tried_some_alone: bool = False

    def begin(self, object_name: str, records: Mapping[str, Values]) -> None:
        """Write one batch, with what a refusal costs on top."""
        self.calls = 0
        self.has_tried_some_alone = False
        self.send(object_name, records)

    def send(self, object_name: str, records: Mapping[str, Values]) -> None:
        """Write records, and again what a refusal of their neighbours kept out."""
        self.calls += 1
        if self.halted is not None:
            self._settle_all(object_name, records, self.halted)
            return
        inputs = [
            {"id": record_id, "properties": values, "objectWriteTraceId": _trace(record_id)}
            for record_id, values in records.items()
        ]
        try:
            answer = self.client.batch_update(object_name, inputs)
        except Refused as refusal:
            self._refused(object_name, records, refusal)
        except (AnswerLost, MalformedAnswer) as error:
            verdict = _Verdict(PushOutcome.UNKNOWN, "no_answer", error.message)
            self._settle_all(object_name, records, verdict)
        except ConnectorError as error:
            if not self.verdicts:
                raise
            self.halted = _Verdict(PushOutcome.RETRY, "not_sent", error.message)
            self._settle_all(object_name, records, self.halted)
        else:
            self._answered(object_name, records, answer)

    def _answered(self, object_name: str, records: Mapping[str, Values], answer: Answer) -> None:
        names = _names(records)
        open_ids = dict.fromkeys(records)
        # Errors first: a record that stands among the results, too, is not certainly written.
        about, unplaced = _by_record(entries_of(answer.content), names, list(records))
        again = self._refuse_each(object_name, records, about)
        for record_id in about:
            del open_ids[record_id]
        for result in answer.results:
            asked_id = names.get(str(result.get("id"))) or names.get(
                str(result.get("objectWriteTraceId"))
            )
            if asked_id in open_ids:
                del open_ids[asked_id]
                self._accept(object_name, asked_id, records[asked_id], result)
        self._left_out(object_name, {one: records[one] for one in open_ids}, unplaced)
        self._again(object_name, again, unplaced or [e for some in about.values() for e in some])

    def _left_out(
        self, object_name: str, records: Mapping[str, Values], unplaced: Sequence[Entry]
    ) -> None:
        """Settle what an answer names nowhere.

        Merged-away ids go missing without a word. Errors that do not say whose they are belong to
        some of these records: in smaller batches they show whose.
        """
        if not unplaced:
            words = "HubSpot's answer leaves the record out."
            unknown = _Verdict(PushOutcome.UNKNOWN, "left_out", words)
            self._settle_all(object_name, records, unknown)
        else:
            self._find_out(object_name, records, unplaced)

    def _refused(self, object_name: str, records: Mapping[str, Values], refusal: Refused) -> None:
        """The whole batch was refused: nothing was written. Find out whose fault it was."""
        # What a 4xx says without a category does not go away by itself either.
        entries = [
            one if one.category else replace(one, category=_REFUSED)
            for one in refusal.entries or (_whole(refusal),)
        ]
        for_all = [one for one in entries if one.code in _FOR_ALL and one.fields]
        about, _ = _by_record(entries, _names(records), list(records))
        if for_all:
            again = self._refuse_each(object_name, records, dict.fromkeys(records, for_all))
            self._again(object_name, again, entries)
        elif about:
            again = self._refuse_each(object_name, records, about)
            beside = {one: values for one, values in records.items() if one not in about}
            self._again(object_name, {**beside, **again}, entries)
        else:
            self._find_out(object_name, records, entries)

    def _refuse_each(
        self,
        object_name: str,
        records: Mapping[str, Values],
        about: Mapping[str, Sequence[Entry]],
    ) -> dict[str, Values]:
        """Settle what is named of each record; returns what was kept out beside it."""
        left = {
            record_id: self._refuse(object_name, record_id, records[record_id], entries)
            for record_id, entries in about.items()
        }
        return {record_id: values for record_id, values in left.items() if values}

    def _again(
        self, object_name: str, records: Mapping[str, Values], entries: Sequence[Entry]
    ) -> None:
        """Send what a refusal of something else kept out, unless too much was spent on it."""
        if not records:
            return
        if self.calls >= _MOST_CALLS and self.halted is None:
            self._give_up(object_name, records, entries, f"after {self.calls} calls")
            return
        self.send(object_name, records)

    def _find_out(
        self, object_name: str, records: Mapping[str, Values], entries: Sequence[Entry]
    ) -> None:
        """Errors that do not say whose they are: in smaller batches they show whose.

        What is refused for whatever is sent would cost two calls a record: some are tried alone
        first, and when all of these are refused, so is the rest.
        """
        ids = list(records)
        if len(ids) == 1:
            again = self._refuse_each(object_name, records, {ids[0]: entries})
            self._again(object_name, again, entries)
            return
        if len(ids) > _FEW and not self.has_tried_some_alone:
            self.has_tried_some_alone = True
            alone = (ids[0], ids[len(ids) // 2], ids[-1])
            ids = [one for one in ids if one not in alone]
            for one in alone:
                self.send(object_name, {one: records[one]})
            if self.halted is None and all(
                self._is_refused(object_name, one, records[one]) for one in alone
            ):
                rest = {one: records[one] for one in ids}
                how = f"and so are {_TRIED_ALONE} of its records alone"
                self._give_up(object_name, rest, entries, how)
                return
        middle = (len(ids) + 1) // 2
        for half in (ids[:middle], ids[middle:]):
            self._again(object_name, {one: records[one] for one in half}, entries)

    def _is_refused(self, object_name: str, record_id: str, values: Values) -> bool:
        found = [self.verdicts[object_name, record_id, name].outcome for name in values]
        return all(one in {PushOutcome.FAILED, PushOutcome.RETRY} for one in found)

    def _give_up(
        self,
        object_name: str,
        records: Mapping[str, Values],
        entries: Sequence[Entry],
        how: str,
    ) -> None:
        verdict = _verdict(entries)
        words = f"{verdict.message} The batch is refused, {how}; this record was not tried alone."
        self._settle_all(object_name, records, replace(verdict, message=words))

    def _refuse(
        self, object_name: str, record_id: str, values: Values, entries: Sequence[Entry]
    ) -> Values:
        """Settle the named properties; returns the others, which were kept out beside them."""
        named: dict[str, list[Entry]] = {}
        for entry in entries:
            for name in entry.fields:
                if name in values:
                    named.setdefault(name, []).append(entry)
        whole = [one for one in entries if not one.fields]
        if not whole and not named:
            whole = list(entries)
        for name in values if whole else named:
            verdict = _verdict([*named.get(name, ()), *whole])
            self.verdicts[object_name, record_id, name] = verdict
        if whole:
            return {}
        return {name: text for name, text in values.items() if name not in named}

    def _accept(
        self, object_name: str, record_id: str, values: Values, result: Mapping[str, object]
    ) -> None:
        """Settle a record that the answer names: written, unless the answer shows otherwise."""
        answered_id = str(result.get("id"))
        if answered_id != record_id:
            words = f"HubSpot answers with record {answered_id}: it was merged into that one."
            moved = _Verdict(PushOutcome.UNKNOWN, "merged", words)
            self._settle(object_name, record_id, values, moved)
            return
        shown = result.get("properties")
        echo = shown if isinstance(shown, Mapping) else {}
        known = self.described.get(object_name, {})
        for name, text in values.items():
            is_kept = name not in echo or is_echoed(text, echo[name], known.get(name))
            self.verdicts[object_name, record_id, name] = (
                _WRITTEN
                if is_kept
                else _Verdict(
                    PushOutcome.UNKNOWN,
                    "not_kept",
                    f"HubSpot accepts the value and shows {str(echo[name])[:100]!r} instead.",
                )
            )

    def _settle(
        self, object_name: str, record_id: str, values: Iterable[str], verdict: _Verdict
    ) -> None:
        for name in values:
            self.verdicts[object_name, record_id, name] = verdict

    def _settle_all(
        self, object_name: str, records: Mapping[str, Values], verdict: _Verdict
    ) -> None:
        for record_id, values in records.items():
            self._settle(object_name, record_id, values, verdict)


def _trace(record_id: str) -> str:
    return f"kpisync-{record_id}"


def _names(records: Iterable[str]) -> dict[str, str]:
    """What an answer may call each record -> its id."""
    return {name: one for one in records for name in (one, _trace(one))}


def _by_record(
    entries: Iterable[Entry], names: Mapping[str, str], ids: Sequence[str]
) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """Errors by the record that they are about, and those that name none of the batch.

    Args:
        entries: What the answer says.
        names: As `_names` gives them.
        ids: The batch's records in the order of its inputs.
    """
    found: dict[str, list[Entry]] = {}
    unplaced: list[Entry] = []
    for entry in entries:
        told = (
            name
            for key in ("objectWriteTraceId", "ids", "id", "objectId")
            for name in entry.context.get(key, ())
        )
        about = dict.fromkeys(names[name] for name in told if name in names)
        if not about and entry.input is not None and entry.input < len(ids):
            about = dict.fromkeys([ids[entry.input]])
        for record_id in about:
            found.setdefault(record_id, []).append(entry)
        if not about:
            unplaced.append(entry)
    return found, unplaced


def _verdict(entries: Sequence[Entry]) -> _Verdict:
    """What several errors about one value amount to, in all of HubSpot's words."""
    first = entries[0]
    code = first.code or first.category or "refused"
    said = dict.fromkeys(one.message for one in entries if one.message)
    words = "; ".join(said) or "HubSpot refuses without a word of explanation."
    if any(NOT_FOUND in {one.category, one.code} for one in entries):
        return _Verdict(PushOutcome.GONE, code, words)
    if any(one.category in _VALIDATION or one.fields or one.code in _FOR_ALL for one in entries):
        return _Verdict(PushOutcome.FAILED, code, words)
    # Locks, limits, faults inside HubSpot and whatever it invents next.
    return _Verdict(PushOutcome.RETRY, code, words)


def _whole(refusal: Refused) -> Entry:
    return Entry(
        category=_REFUSED,
        sub_category="",
        code=f"http_{refusal.status}",
        message=refusal.message,
        context={},
    )


# ---------------------------------------------------------------- reading back


def read(
    client: HubSpotClient,
    object_name: str,
    record_ids: Sequence[str],
    field_names: Sequence[str],
    properties: Mapping[str, Property],
) -> list[LiveRecord]:
    """Live values by id, of the record it was merged into where it was.

    Raises:
        CrmUnavailable: HubSpot does not tell of every record whether it exists.
    """
    fetched = fetch(client, object_name, record_ids, properties=field_names, look_for_winners=True)
    if fetched.unread:
        record_id, why = next(iter(fetched.unread.items()))
        raise CrmUnavailable(
            client.connection, f"HubSpot does not tell the values of record {record_id}: {why}"
        )
    return list(_live(record_ids, fetched.merged, fetched.rows, field_names, properties))


def _live(
    record_ids: Iterable[str],
    merged: Mapping[str, str],
    rows: Mapping[str, Mapping[str, object]],
    field_names: Sequence[str],
    properties: Mapping[str, Property],
) -> Iterator[LiveRecord]:
    for asked_id in dict.fromkeys(record_ids):
        record_id = merged.get(asked_id, asked_id)
        row = rows.get(record_id)
        if row is None:
            continue
        texts = row.get("properties")
        values = texts if isinstance(texts, dict) else {}
        yield LiveRecord(
            asked_id=asked_id,
            record_id=record_id,
            values={name: decoded(values.get(name), properties.get(name)) for name in field_names},
        )

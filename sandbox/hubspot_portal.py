"""The HubSpot portal: the org model with HubSpot's ids, properties, pipelines and merges.

Object names are HubSpot's plural ones (``deals``, ``companies``), a custom object's own name,
or one of `sandbox.hubspot_types.OTHER_RECORDS`. Property values are text throughout. What
people do in the portal (the admin endpoints) is not checked against the property definitions,
so that a test can plant values no API would have taken.
"""

from __future__ import annotations

import contextlib
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, DecimalException

from sandbox.hubspot_derived import (
    CLOSING,
    LIFECYCLE_TYPES,
    RATES_SINCE,
    Money,
    Rate,
    calculated_of_deal,
    calculated_of_line_item,
    calculated_of_ticket,
    closing_time,
    visit_times,
)
from sandbox.hubspot_errors import correlation_id, not_found, usual_answer
from sandbox.hubspot_grants import Grants
from sandbox.hubspot_index import SearchIndex, milliseconds
from sandbox.hubspot_limits import SETTABLE, Limits
from sandbox.hubspot_links import PRIMARY, Links, LinkTypes, Pair
from sandbox.hubspot_pipelines import (
    DEFAULT_PIPELINES,
    Pipeline,
    Stage,
    first_pipelines,
    stage_property,
)
from sandbox.hubspot_properties import (
    TYPE_OF,
    Option,
    Property,
    as_text,
    instant_text,
    parsed_instant,
)
from sandbox.hubspot_settings import Settings
from sandbox.hubspot_standard import (
    LIFECYCLE_STAGES,
    duration_property,
    group_label,
    lifecycle_property,
    standard_properties,
)
from sandbox.hubspot_types import OTHER_RECORDS, ObjectType, ObjectTypes
from sandbox.hubspot_webhooks import Webhooks
from sandbox.org import (
    API,
    NO_FIELDS,
    PEOPLE,
    Change,
    Clock,
    Fields,
    FieldType,
    Org,
    Record,
    StageSpec,
    State,
    UsualAnswer,
    Value,
)

DEFAULT_PIPELINE = DEFAULT_PIPELINES["deals"]
FIRST_ID = 9_000_000_000
COUNTED_LINKS: Mapping[tuple[str, str], str] = {
    ("companies", "num_associated_deals"): "deals",
    ("companies", "num_associated_contacts"): "contacts",
    ("contacts", "num_associated_deals"): "deals",
    ("deals", "num_associated_contacts"): "contacts",
}
"""Properties that count links; they are right at any time, and move no modified date."""

OF_LINKS = frozenset({"associatedcompanyid", *(name for _, name in COUNTED_LINKS)})
"""Properties that are read from the links."""


class Portal(Org):
    """One HubSpot account."""

    # Archiving leaves the modified date alone ("Using object APIs"; observed by peers), so
    # no incremental query shows a deletion.
    deletion_moves_modified = False

    def __init__(self, *, clock: Clock | None = None, seed: int = 0) -> None:
        super().__init__(crm="hubspot", clock=clock, seed=seed)
        self.settings = Settings()
        self.limits = Limits()
        self.grants = Grants()
        self.types = ObjectTypes(self.settings.portal_id)
        self.webhooks = Webhooks()
        self.links = Links(self._link_changed)
        self.link_types = LinkTypes()
        self.properties: dict[str, dict[str, Property]] = {}
        self.groups: dict[str, dict[str, str]] = {}
        self.pipelines: dict[str, dict[str, Pipeline]] = {}
        # Each object type counts for itself from the same number: a deal and a company may
        # share an id, and whoever mixes the two up finds out.
        self._last_id: dict[str, int] = {}
        self._ids: dict[str, list[int]] = {}
        self._indexes: dict[str, SearchIndex] = {}
        self._unique: dict[tuple[str, str], dict[str, str]] = {}
        for name in OTHER_RECORDS:
            self._begin(name)
        for kind in self.types:
            self._define(kind)
        for object_type, pipeline in first_pipelines():
            self.put_pipeline(object_type, pipeline)

    # The org model's questions

    def objects(self) -> Sequence[str]:
        """The object types the portal serves, filled or not."""
        return sorted(self._last_id)

    def new_id(self, object_name: str) -> str:
        """Numbers that rise with gaps; they say nothing about when a record was made."""
        if object_name not in self._last_id:
            raise ValueError(f"the portal has no object {object_name!r}")
        if object_name == "campaigns":
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        self._last_id[object_name] += self.random.randint(1, 9)
        return str(self._last_id[object_name])

    def canonical_id(self, object_name: str, record_id: str) -> str:  # noqa: ARG002
        """Ids have one form only."""
        return record_id

    def prepared(self, object_name: str, values: Fields, record: Record | None) -> Fields:
        """All values as text; "" clears; a new record gets its currency and pipeline."""
        texts = {name: as_text(value) for name, value in values.items()}
        if object_name == "contacts" and texts.get("email"):
            texts["email"] = str(texts["email"]).lower()
        kind = self.types.get(object_name)
        if record is not None or kind is None:
            return texts
        defaults: dict[str, str | None] = {}
        if kind.pipeline is not None:
            defaults[kind.pipeline] = DEFAULT_PIPELINES[object_name]
        if object_name == "deals":
            defaults["deal_currency_code"] = self.settings.company_currency
        return {**defaults, **texts}

    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Keep the order of ids, and what HubSpot writes into a record by itself."""
        kind = self.types.get(record.object_name)
        if record.object_name != "campaigns":
            self._keep_order(record)
        if kind is None:
            return
        self._keep_unique(kind, record)
        derived: dict[str, Value] = {}
        if kind.stage is not None:
            derived |= visit_times(record, before, kind.stage, at)
        if kind.name in CLOSING:
            stages = self._stage_of(kind, record.fields), self._stage_of(kind, before)
            closing = closing_time(record, before, CLOSING[kind.name], at, stages=stages)
            self._remember(record, closing, at=at, by=by)
            derived |= closing
        if kind.name in LIFECYCLE_TYPES:
            derived |= visit_times(record, before, "lifecyclestage", at)
        self._put_fields(record, derived)
        self._put_fields(record, self._calculated(kind, record))
        self._tell_of_write(kind, record, before, at, by)

    def delete(
        self,
        object_name: str,
        record_id: str,
        *,
        merged_into: str | None = None,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Archive a record; see `Org.delete`."""
        super().delete(
            object_name,
            record_id,
            merged_into=merged_into,
            by=by,
            at=at,
            commit_after=commit_after,
        )
        if merged_into is None:
            self._tell(object_name, "deletion", at, objectId=record_id, changeFlag="DELETED")

    def undelete(
        self,
        object_name: str,
        record_id: str,
        *,
        by: str = PEOPLE,
        at: datetime | None = None,
        commit_after: timedelta | None = None,
    ) -> None:
        """Restore a record; see `Org.undelete`."""
        super().undelete(object_name, record_id, by=by, at=at, commit_after=commit_after)
        self._tell(object_name, "restore", at, objectId=record_id, changeFlag="RESTORED")

    def erase(self, object_name: str, record_id: str) -> None:
        """Remove a record for good; see `Org.erase`."""
        super().erase(object_name, record_id)
        self._tell(object_name, "privacyDeletion", None, objectId=record_id)

    def usual_answer(self, status: int) -> UsualAnswer | None:
        """See `sandbox.hubspot_errors.usual_answer`."""
        return usual_answer(status, correlation_id(self.random))

    def indexed(self, record: Record) -> None:
        """Keep the search index: archived and erased records leave it at once."""
        index = self._indexes.get(record.object_name)
        if index is None:
            return
        if record.is_deleted or record.indexed is None:
            index.hide(record.id)
        else:
            index.show(record, record.indexed)

    def same_value(self, object_name: str, name: str, old: Value, new: Value) -> bool:
        """Numbers are compared as numbers: "12.5" over "12.50" is redundant."""
        definition = self.properties.get(object_name, {}).get(name)
        if definition is not None and definition.type == "number" and old and new:
            with contextlib.suppress(DecimalException):
                return Decimal(str(old)) == Decimal(str(new))
        return (old or None) == (new or None)

    def stamp(self, instant: datetime) -> datetime:
        """Milliseconds."""
        return instant.replace(microsecond=instant.microsecond // 1000 * 1000)

    def merge(
        self, object_name: str, winner_id: str, loser_ids: Iterable[str], *, by: str = PEOPLE
    ) -> str:
        """Merge, and return the id under which the record lives on.

        Changelog "Updated merge functionality for contacts and companies": since 2025 they too
        merge into a new record with a new id, and all the old ones are merged away into it;
        before, the winner kept its id. `hs_merged_object_ids` lists the old ids.
        """
        winner = self.get(object_name, winner_id)
        losers = [self.get(object_name, loser) for loser in loser_ids]
        if self.settings.merge_keeps_winner:
            self._absorb(winner, losers, by)
            lives_on = winner.id
        else:
            lives_on = self._merge_anew(winner, losers, by)
        self._tell(
            object_name,
            "merge",
            None,
            objectId=lives_on,
            primaryObjectId=int(winner.id),
            mergedObjectIds=[int(record.id) for record in losers],
            newObjectId=int(lives_on),
        )
        return lives_on

    def add_field(
        self,
        object_name: str,
        name: str,
        *,
        label: str,
        type: FieldType,  # noqa: A002 - the field's word
        choices: Sequence[str] = (),
    ) -> None:
        """Add a custom property; for a standard enumeration, add to its choices."""
        known = self.properties[object_name].get(name)
        options = tuple(Option(choice, choice) for choice in choices)
        if known is not None:
            present = {option.value for option in known.options}
            known.options += tuple(option for option in options if option.value not in present)
            if name == "lifecyclestage":
                self._define_lifecycle(self.types[object_name])
            return
        kind, field_type = TYPE_OF[type]
        group = next(iter(self.groups[object_name]))
        self.properties[object_name][name] = Property(
            name, label, kind, field_type, group, options, is_standard=False, created_at=self.now()
        )

    def set_stages(self, stages: Sequence[StageSpec]) -> None:
        """Replace the stages of the default pipeline; a stage's id is its label in one word."""
        specs = [Stage(_word(it.name), it.name, it.is_closed, it.probability) for it in stages]
        self.put_pipeline("deals", Pipeline(DEFAULT_PIPELINE, "Sales Pipeline", specs))

    def link(self, object_name: str, record_id: str, to_object: str, to_ids: Sequence[str]) -> None:
        """Associate records; the first is the primary one, where there is such a thing."""
        has_primary = any(
            it.label == PRIMARY for it in self.link_types.of((object_name, to_object))
        )
        for place, other in enumerate(to_ids):
            found = self.get(to_object, other)
            primary = has_primary and place == 0
            self.links.add(object_name, record_id, to_object, found.id, primary=primary)

    def configure(self, settings: Mapping[str, object]) -> None:
        """Set what docs/sandbox.md lists for HubSpot."""
        for name, value in settings.items():
            if name in SETTABLE:
                self.limits.set(name, value)
            elif not self.grants.set(name, value):
                self.settings.set(name, value)
        self.types.rename_for(self.settings.portal_id)

    # What the dialect asks

    def define_object(self, name: str, label: str, *, properties: Sequence[Property]) -> ObjectType:
        """Add a custom object with its own properties, besides those every object has.

        It may be associated with contacts, companies, deals and tickets.

        Raises:
            ValueError: for a name that is taken.
        """
        kind = self.types.define(name, label, defaults=tuple(it.name for it in properties[:3]))
        self._define(kind)
        self.properties[name] |= {it.name: replace(it, group=kind.group) for it in properties}
        for other in ("contacts", "companies", "deals", "tickets"):
            self.link_types.allow((name, other))
        return kind

    def put_pipeline(self, object_type: str, pipeline: Pipeline) -> None:
        """Add or replace a pipeline; its records are calculated again and count as modified."""
        kind = self.types[object_type]
        self.pipelines.setdefault(object_type, {})[pipeline.id] = pipeline
        for stage in pipeline.stages:
            self._define_visits(kind, stage.id, stage.label)
        for record in list(self.all(object_type)):
            if kind.pipeline is not None and record[kind.pipeline] == pipeline.id:
                self._put_fields(record, self._calculated(kind, record))
                self.put(record, record.state, modified=self.stamp(self.now()))

    def rates(self) -> list[Rate]:
        """The setting's rates, which hold from 2020 on, and the dated ones, the oldest first."""
        standing = [
            Rate(str(place), currency, rate, RATES_SINCE)
            for place, (currency, rate) in enumerate(sorted(self.settings.rates.items()), start=1)
        ]
        dated = [
            Rate(
                record.id,
                str(record["fromCurrencyCode"]),
                Decimal(str(record["conversionRate"])),
                parsed_instant(str(record["effectiveAt"])) or record.created_at,
            )
            for record in self.all("exchange_rates")
        ]
        return [*standing, *sorted(dated, key=lambda one: one.effective)]

    def stage(self, object_type: str, pipeline_id: str, stage_id: str) -> Stage | None:
        """The stage, archived or not; None where nobody knows it."""
        pipeline = self.pipelines.get(object_type, {}).get(pipeline_id)
        return pipeline.stage(stage_id) if pipeline else None

    def index(self, object_type: str) -> SearchIndex:
        """What search sees of an object type, up to date."""
        self.settle()
        return self._indexes[object_type]

    def live(self, object_type: str, record_id: str) -> Record:
        """The record that answers to this id; the successor's for a merged-away one.

        Raises:
            HubSpotError: 404 where there is none, or it is archived.
        """
        record = self.find(object_type, record_id)
        while record is not None and record.state.merged_into is not None:
            record = self.find(object_type, record.state.merged_into)
        if record is None or record.is_deleted:
            raise not_found("Object not found.  objectId are usually numeric.")
        return record

    def with_value(self, object_type: str, name: str, value: str) -> Record | None:
        """The live record that has this value of a unique property; None: nobody has."""
        wanted = value.lower() if name == "email" else value
        record_id = self._unique.get((object_type, name), {}).get(wanted)
        record = self.find(object_type, record_id) if record_id is not None else None
        if record is None or record.is_deleted or record[name] != wanted:
            return None
        return record

    def value(self, record: Record, state: State, name: str) -> str | None:
        """One property of a record as of a state (the present one, or the search index's)."""
        if name == "hs_object_id":
            return record.id
        if name in ("hs_lastmodifieddate", "lastmodifieddate"):
            return instant_text(state.modified_at)
        if name == "hs_createdate":
            return instant_text(record.created_at)
        stored = state.fields.get(name)
        if stored is not None:
            return stored if isinstance(stored, str) else as_text(stored)
        if name == "createdate":
            return instant_text(record.created_at)
        return self._of_links(record, name) if name in OF_LINKS else None

    def from_id(
        self, object_type: str, first_id: int, *, archived: bool = False
    ) -> Iterator[Record]:
        """Records in the order of their ids from this one on: the live ones, or the archived."""
        ids = self._ids[object_type]
        for place in range(bisect_left(ids, first_id), len(ids)):
            record = self.find(object_type, str(ids[place]))
            if record is not None and record.is_deleted is archived:
                yield record

    def past(self, record: Record, name: str) -> list[Change]:
        """The history of one property, newest first."""
        return record.history(name)[::-1]

    def linked(self, record: Record, to_type: str) -> dict[str, frozenset[str]]:
        """Ids of the live records it is associated with -> the labels."""
        found = self.links.of(record.object_name, record.id, to_type)
        return {other: labels for other, labels in found.items() if self._is_live(to_type, other)}

    # Inside

    def _tell_of_write(
        self, kind: ObjectType, record: Record, before: Fields, at: datetime, by: str
    ) -> None:
        if not self.webhooks.url:
            return
        source = "INTEGRATION" if by == API else "CRM_UI"
        if before is NO_FIELDS:
            self._tell(
                kind.name,
                "creation",
                at,
                objectId=record.id,
                changeFlag="CREATED",
                changeSource=source,
            )
        for name in sorted({*before, *record.fields}):
            if before.get(name) != record[name]:
                self._tell(
                    kind.name,
                    "propertyChange",
                    at,
                    objectId=record.id,
                    propertyName=name,
                    propertyValue=as_text(record[name]) or "",
                    changeSource=source,
                )

    def _link_changed(self, one: Pair, other: Pair, is_removed: bool) -> None:
        if not self.webhooks.url:
            return
        here, there = (self.types[end[0]].singular.upper() for end in (one, other))
        self._tell(
            one[0],
            "associationChange",
            None,
            associationType=f"{here}_TO_{there}",
            fromObjectId=int(one[1]),
            toObjectId=int(other[1]),
            associationRemoved=is_removed,
        )

    def _tell(self, object_type: str, what: str, at: datetime | None, **details: object) -> None:
        """Keep an event for whoever subscribed."""
        kind = self.types.get(object_type)
        if kind is None or not self.webhooks.url:
            return
        if "objectId" in details:
            details["objectId"] = int(str(details["objectId"]))
        word = "object" if kind.is_custom else kind.singular
        if kind.is_custom:
            details["objectTypeId"] = kind.type_id
        occurred = milliseconds(at or self.now())
        self.webhooks.keep(f"{word}.{what}", occurred, self.settings.portal_id, details)

    def _begin(self, name: str) -> None:
        self._last_id[name] = FIRST_ID
        self._ids[name] = []

    def _define(self, kind: ObjectType) -> None:
        self._begin(kind.name)
        self._indexes[kind.name] = SearchIndex()
        self.groups[kind.name] = {kind.group: group_label(kind)}
        self.properties[kind.name] = {it.name: it for it in standard_properties(kind)}
        if kind.name in LIFECYCLE_TYPES:
            self._define_lifecycle(kind)

    def _define_lifecycle(self, kind: ObjectType) -> None:
        known = self.properties[kind.name]
        for option in known["lifecyclestage"].options:
            self._define_visits(kind, option.value, option.label)
            if option.value in LIFECYCLE_STAGES:
                name = f"hs_lifecyclestage_{option.value}_date"
                label = f"Became a {option.label} Date"
                known.setdefault(name, lifecycle_property(kind.group, name, label))

    def _define_visits(self, kind: ObjectType, stage_id: str, label: str) -> None:
        known = self.properties[kind.name]
        for event in ("date_entered", "date_exited"):
            name, words = stage_property(event, stage_id), event.replace("_", " ").capitalize()
            title = f'{words} "{label}"'
            known.setdefault(name, lifecycle_property(kind.group, name, title))
        for event in ("latest_time_in", "cumulative_time_in"):
            name, words = stage_property(event, stage_id), event.replace("_", " ").capitalize()
            title = f'{words} "{label}"'
            known.setdefault(name, duration_property(kind.group, name, title))

    def _keep_order(self, record: Record) -> None:
        ids, number = self._ids[record.object_name], int(record.id)
        place = bisect_left(ids, number)
        if ids[place : place + 1] != [number]:
            ids.insert(place, number)

    def _keep_unique(self, kind: ObjectType, record: Record) -> None:
        for name, definition in self.properties[kind.name].items():
            if definition.has_unique_value and record[name] is not None:
                self._unique.setdefault((kind.name, name), {})[str(record[name])] = record.id

    def _is_live(self, object_type: str, record_id: str) -> bool:
        record = self.find(object_type, record_id)
        return record is not None and not record.is_deleted

    def _put_fields(self, record: Record, values: Mapping[str, Value]) -> None:
        if not values:
            return
        fields = {k: v for k, v in {**record.fields, **values}.items() if v is not None}
        if fields != record.fields:
            self.put(record, replace(record.state, fields=fields))

    def _stage_of(self, kind: ObjectType, fields: Fields) -> Stage | None:
        if kind.pipeline is None or kind.stage is None:
            return None
        return self.stage(kind.name, str(fields.get(kind.pipeline)), str(fields.get(kind.stage)))

    def _calculated(self, kind: ObjectType, record: Record) -> dict[str, Value]:
        if kind.name == "deals":
            money = Money(self.settings.company_currency, self.rates())
            stage = self._stage_of(kind, record.fields)
            return calculated_of_deal(record, stage, money, self.now())
        if kind.name == "tickets":
            return calculated_of_ticket(record)
        if kind.name == "line_items":
            return calculated_of_line_item(record)
        return {}

    def _of_links(self, record: Record, name: str) -> str | None:
        counted = COUNTED_LINKS.get((record.object_name, name))
        if counted is not None:
            return str(len(self.linked(record, counted)))
        return self._primary_company(record) if record.object_name == "contacts" else None

    def _primary_company(self, record: Record) -> str | None:
        companies = self.linked(record, "companies")
        return next((other for other, labels in companies.items() if PRIMARY in labels), None)

    def _merge_anew(self, winner: Record, losers: Sequence[Record], by: str) -> str:
        merged = [winner, *losers]
        kept: dict[str, Value] = {}
        for record in reversed(merged):
            kept |= {k: v for k, v in record.fields.items() if v is not None}
        kept["hs_merged_object_ids"] = ";".join(_ids_of_merge(merged))
        kept |= _other_emails(winner, losers)
        oldest = min(record.created_at for record in merged)
        kept["createdate"] = min(
            (str(r["createdate"]) for r in merged if r["createdate"]), default=instant_text(oldest)
        )
        new_id = self.create(winner.object_name, kept, by=by)
        successor = self.get(winner.object_name, new_id)
        successor.changes = {name: list(past) for name, past in winner.changes.items()}
        successor.created_at = oldest
        self._put_fields(successor, kept)
        for record in merged:
            self.links.move(record.object_name, record.id, new_id)
            self.delete(record.object_name, record.id, merged_into=new_id, by=by)
        return new_id

    def _absorb(self, winner: Record, losers: Sequence[Record], by: str) -> None:
        kept: dict[str, Value] = {}
        for record in reversed(losers):
            kept |= {k: v for k, v in record.fields.items() if winner[k] is None}
        earlier = winner["hs_merged_object_ids"]
        ids = [*(str(earlier).split(";") if earlier else ()), *_ids_of_merge(losers)]
        kept["hs_merged_object_ids"] = ";".join(ids)
        kept |= _other_emails(winner, losers)
        for record in losers:
            self.links.move(record.object_name, record.id, winner.id)
            self.delete(record.object_name, record.id, merged_into=winner.id, by=by)
        self.edit(winner.object_name, winner.id, kept, by=by)


def _ids_of_merge(merged: Sequence[Record]) -> Iterator[str]:
    for record in merged:
        earlier = record["hs_merged_object_ids"]
        yield from str(earlier).split(";") if earlier else ()
        yield record.id


def _other_emails(winner: Record, losers: Sequence[Record]) -> dict[str, Value]:
    """A merged contact keeps the winner's address; those of the losers become additional."""
    others = [str(record["email"]) for record in losers if record["email"]]
    if winner.object_name != "contacts" or winner["email"] is None or not others:
        return {}
    earlier = winner["hs_additional_emails"]
    return {"hs_additional_emails": ";".join([*([str(earlier)] if earlier else []), *others])}


def _word(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum())

"""The HubSpot portal: the org model with HubSpot's ids, properties, pipelines and merges.

Object names are HubSpot's plural ones: ``deals``, ``companies``, ``owners``. Property values are
text throughout. What people do in the portal (the admin endpoints) is not checked against the
property definitions, so that a test can plant values no API would have taken.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from zoneinfo import ZoneInfo

from sandbox.hubspot_errors import not_found
from sandbox.hubspot_limits import SETTABLE, Limits
from sandbox.hubspot_links import Links
from sandbox.hubspot_properties import (
    TYPE_OF,
    Option,
    Property,
    as_text,
    instant_text,
    parsed_instant,
    standard_properties,
)
from sandbox.org import (
    PEOPLE,
    Change,
    Clock,
    Fields,
    FieldType,
    Org,
    Record,
    StageSpec,
    State,
    Value,
)

TOKEN = "pat-na1-sandbox"  # noqa: S105 - the sandbox's well-known token
DEFAULT_PIPELINE = "default"
OBJECT_TYPES = ("companies", "deals")
# "Using object APIs": how each type may be named in a path.
TYPE_NAMES: Mapping[str, str] = {
    "companies": "companies",
    "company": "companies",
    "0-2": "companies",
    "deals": "deals",
    "deal": "deals",
    "0-3": "deals",
}
SINGULAR: Mapping[str, str] = {"companies": "company", "deals": "deal"}
DEFAULT_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "companies": ("createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"),
    "deals": (
        "amount",
        "closedate",
        "createdate",
        "dealname",
        "dealstage",
        "hs_lastmodifieddate",
        "hs_object_id",
        "pipeline",
    ),
}
ALL_SCOPES = frozenset(
    {
        "crm.objects.companies.read",
        "crm.objects.companies.write",
        "crm.objects.deals.read",
        "crm.objects.deals.write",
        "crm.objects.owners.read",
        "crm.schemas.companies.read",
        "crm.schemas.companies.write",
        "crm.schemas.deals.read",
        "crm.schemas.deals.write",
    }
)
FIRST_STAGES: Sequence[tuple[str, str, bool, float]] = (
    ("appointmentscheduled", "Appointment Scheduled", False, 0.2),
    ("qualifiedtobuy", "Qualified To Buy", False, 0.4),
    ("presentationscheduled", "Presentation Scheduled", False, 0.6),
    ("decisionmakerboughtin", "Decision Maker Bought-In", False, 0.8),
    ("contractsent", "Contract Sent", False, 0.9),
    ("closedwon", "Closed Won", True, 1.0),
    ("closedlost", "Closed Lost", True, 0.0),
)


@dataclass(slots=True)
class Stage:
    """One stage of a pipeline; won is closed with probability 1."""

    id: str
    label: str
    is_closed: bool
    probability: float
    is_archived: bool = False


@dataclass(slots=True)
class Pipeline:
    """One deal pipeline."""

    id: str
    label: str
    stages: list[Stage]
    created_at: datetime = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Settings:
    """What the admin may set about the portal."""

    portal_id: int = 7654321
    time_zone: str = "UTC"
    company_currency: str = "USD"
    rates: dict[str, Decimal] = field(default_factory=dict)
    """Company currency per unit of a foreign currency."""
    tokens: frozenset[str] = frozenset({TOKEN})
    scopes: frozenset[str] = ALL_SCOPES
    association_page: int = 100
    """Links of one record per answer of the batch read."""
    archived_shows_merged: bool = False
    """Whether merged-away records stand in the archived list (HubSpot does not say)."""
    stale_calculated: bool = False
    """Whether search answers null for calculated properties, as it sometimes does."""


class Portal(Org):
    """One HubSpot account."""

    # Archiving leaves hs_lastmodifieddate alone ("Using object APIs"; observed by peers), so
    # no incremental query shows a deletion.
    deletion_moves_modified = False

    def __init__(self, *, clock: Clock | None = None, seed: int = 0) -> None:
        super().__init__(crm="hubspot", clock=clock, seed=seed)
        self.settings = Settings()
        self.limits = Limits()
        self.links = Links()
        self.properties = {
            name: {it.name: it for it in standard_properties(name)} for name in OBJECT_TYPES
        }
        self.groups: dict[str, dict[str, str]] = {
            "companies": {"companyinformation": "Company information"},
            "deals": {"dealinformation": "Deal information"},
        }
        self.pipelines: dict[str, Pipeline] = {}
        # Each object type counts for itself from the same number: a deal and a company may
        # share an id, and whoever mixes the two up finds out.
        self._last_id = dict.fromkeys((*OBJECT_TYPES, "owners"), 9_000_000_000)
        self._ids: dict[str, list[int]] = {name: [] for name in self._last_id}
        self.put_pipeline(
            Pipeline(DEFAULT_PIPELINE, "Sales Pipeline", [Stage(*it) for it in FIRST_STAGES])
        )

    # The org model's questions

    def objects(self) -> Sequence[str]:
        """The object types the portal serves, filled or not."""
        return sorted(self._last_id)

    def new_id(self, object_name: str) -> str:
        """Numbers that rise with gaps; they say nothing about when a record was made."""
        if object_name not in self._last_id:
            raise ValueError(f"the portal has no object {object_name!r}")
        self._last_id[object_name] += self.random.randint(1, 9)
        return str(self._last_id[object_name])

    def canonical_id(self, object_name: str, record_id: str) -> str:  # noqa: ARG002
        """Ids have one form only."""
        return record_id

    def prepared(self, object_name: str, values: Fields, record: Record | None) -> Fields:
        """All values as text; "" clears; a new deal gets its currency and pipeline."""
        texts = {name: as_text(value) for name, value in values.items()}
        if object_name == "deals" and record is None:
            texts = {
                "deal_currency_code": self.settings.company_currency,
                "pipeline": DEFAULT_PIPELINE,
                **texts,
            }
        return texts

    def changed(self, record: Record, before: Fields, at: datetime, by: str) -> None:
        """Keep the order of ids, and what HubSpot calculates of a deal."""
        ids, number = self._ids[record.object_name], int(record.id)
        place = bisect_left(ids, number)
        if ids[place : place + 1] != [number]:
            ids.insert(place, number)
        if record.object_name != "deals":
            return
        derived = self._stage_dates(record, before, at)
        if self._closes_now(record, before):
            closing = {"closedate": instant_text(at)}
            self._remember(record, closing, at=at, by=by)
            derived |= closing
        self._put_fields(record, derived)
        self._put_fields(record, self._calculated(record))

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
        """Merge into a new record with a new id; all the old ones are merged away into it.

        Changelog "Updated merge functionality": `hs_merged_object_ids` lists the old ids.
        """
        winner = self.get(object_name, winner_id)
        merged = [winner, *(self.get(object_name, loser) for loser in loser_ids)]
        kept: dict[str, Value] = {}
        for record in reversed(merged):
            kept |= {k: v for k, v in record.fields.items() if v is not None}
        kept["hs_merged_object_ids"] = ";".join(_ids_of_merge(merged))
        oldest = min(record.created_at for record in merged)
        kept["createdate"] = min(
            (str(r["createdate"]) for r in merged if r["createdate"]), default=instant_text(oldest)
        )
        new_id = self.create(object_name, kept, by=by)
        successor = self.get(object_name, new_id)
        successor.changes = {name: list(past) for name, past in winner.changes.items()}
        successor.created_at = oldest
        self._put_fields(successor, kept)
        for record in merged:
            self.links.move(object_name, record.id, new_id)
            self.delete(object_name, record.id, merged_into=new_id, by=by)
        return new_id

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
            return
        kind, field_type = TYPE_OF[type]
        group = next(iter(self.groups[object_name]))
        self.properties[object_name][name] = Property(
            name, label, kind, field_type, group, options, is_standard=False, created_at=self.now()
        )

    def set_stages(self, stages: Sequence[StageSpec]) -> None:
        """Replace the stages of the default pipeline; a stage's id is its label in one word."""
        specs = [Stage(_word(it.name), it.name, it.is_closed, it.probability) for it in stages]
        self.put_pipeline(Pipeline(DEFAULT_PIPELINE, "Sales Pipeline", specs))

    def link(self, object_name: str, record_id: str, to_object: str, to_ids: Sequence[str]) -> None:
        """Associate records; the first is the primary one."""
        for place, other in enumerate(to_ids):
            found = self.get(to_object, other)
            self.links.add(object_name, record_id, to_object, found.id, primary=place == 0)

    def configure(self, settings: Mapping[str, object]) -> None:
        """Set what docs/sandbox.md lists for HubSpot."""
        for name, value in settings.items():
            if name in SETTABLE:
                self.limits.set(name, value)
            elif name == "time_zone":
                self.settings.time_zone = ZoneInfo(str(value)).key
            elif name == "company_currency":
                self.settings.company_currency = str(value)
            elif name == "rates" and isinstance(value, dict):
                self.settings.rates = {str(k): Decimal(str(v)) for k, v in value.items()}
            elif name in ("tokens", "scopes") and isinstance(value, list):
                setattr(self.settings, name, frozenset(str(it) for it in value))
            elif name in ("association_page", "portal_id") and isinstance(value, int):
                setattr(self.settings, name, value)
            elif name in ("archived_shows_merged", "stale_calculated"):
                setattr(self.settings, name, bool(value))
            else:
                raise ValueError(f"hubspot has no setting {name!r} that takes {json.dumps(value)}")

    # What the dialect asks

    def put_pipeline(self, pipeline: Pipeline) -> None:
        """Add or replace a pipeline; its deals are calculated again and count as modified."""
        self.pipelines[pipeline.id] = pipeline
        for stage in pipeline.stages:
            self._define_stage_properties(stage)
        for record in list(self.all("deals")):
            if record["pipeline"] == pipeline.id:
                self._put_fields(record, self._calculated(record))
                self.put(record, record.state, modified=self.stamp(self.now()))

    def stage(self, pipeline_id: str, stage_id: str) -> Stage | None:
        """The stage, archived or not; None where nobody knows it."""
        pipeline = self.pipelines.get(pipeline_id)
        found = pipeline.stages if pipeline else []
        return next((stage for stage in found if stage.id == stage_id), None)

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

    def value(self, record: Record, state: State, name: str) -> str | None:
        """One property of a record as of a state (the present one, or the search index's)."""
        special = {
            "hs_object_id": record.id,
            "hs_lastmodifieddate": instant_text(state.modified_at),
            "hs_createdate": instant_text(record.created_at),
        }
        if name in special:
            return special[name]
        if name == "num_associated_deals" and record.object_name == "companies":
            return str(len(self.linked(record, "deals")))
        value = state.fields.get(name)
        if value is None and name == "createdate":
            return special["hs_createdate"]
        return as_text(value)

    def from_id(self, object_type: str, first_id: int) -> Iterator[Record]:
        """Records in the order of their ids from this one on, archived and merged ones too."""
        ids = self._ids[object_type]
        for number in itertools.islice(ids, bisect_left(ids, first_id), None):
            record = self.find(object_type, str(number))
            if record is not None:
                yield record

    def past(self, record: Record, name: str) -> list[Change]:
        """The history of one property, newest first."""
        return record.history(name)[::-1]

    def linked(self, record: Record, to_type: str) -> dict[str, bool]:
        """Ids of the live records it is associated with -> whether primary."""
        found = self.links.of(record.object_name, record.id, to_type)
        return {other: main for other, main in found.items() if self._is_live(to_type, other)}

    # Inside

    def _is_live(self, object_type: str, record_id: str) -> bool:
        record = self.find(object_type, record_id)
        return record is not None and not record.is_deleted

    def _put_fields(self, record: Record, values: Mapping[str, Value]) -> None:
        fields = {k: v for k, v in {**record.fields, **values}.items() if v is not None}
        if fields != record.fields:
            self.put(record, replace(record.state, fields=fields))

    def _stage_of(self, fields: Fields) -> Stage | None:
        return self.stage(str(fields.get("pipeline")), str(fields.get("dealstage")))

    def _stage_dates(self, record: Record, before: Fields, at: datetime) -> dict[str, Value]:
        """`hs_v2_date_entered_…` and `…_exited_…`: of the latest visit only."""
        old, new = before.get("dealstage"), record["dealstage"]
        if old == new:
            return {}
        dates: dict[str, Value] = {}
        if old is not None:
            dates[f"hs_v2_date_exited_{old}"] = instant_text(at)
        if new is not None:
            dates[f"hs_v2_date_entered_{new}"] = instant_text(at)
            dates[f"hs_v2_date_exited_{new}"] = None
        return dates

    def _closes_now(self, record: Record, before: Fields) -> bool:
        """Moving a deal to a closed stage sets its close date, unless the write did."""
        stage, earlier = self._stage_of(record.fields), self._stage_of(before)
        if stage is None or not stage.is_closed or (earlier is not None and earlier.is_closed):
            return False
        return record["closedate"] == before.get("closedate")

    def _calculated(self, record: Record) -> dict[str, Value]:
        stage = self._stage_of(record.fields)
        closed = stage is not None and stage.is_closed
        won = closed and stage is not None and stage.probability == 1
        rate = self._rate(record["deal_currency_code"])
        return {
            "hs_is_closed": as_text(closed),
            "hs_is_closed_won": as_text(won),
            "hs_is_closed_lost": as_text(closed and not won),
            "hs_deal_stage_probability": f"{stage.probability:g}" if stage else None,
            "hs_exchange_rate": f"{rate:f}" if rate is not None else None,
            "amount_in_home_currency": _product(record["amount"], rate),
            "days_to_close": _days_to_close(record) if closed else None,
        }

    def _rate(self, currency: Value) -> Decimal | None:
        if currency in (None, self.settings.company_currency):
            return Decimal(1)
        return self.settings.rates.get(str(currency))

    def _define_stage_properties(self, stage: Stage) -> None:
        known = self.properties["deals"]
        for event in ("entered", "exited"):
            name = f"hs_v2_date_{event}_{stage.id}"
            label = f'Date {event} "{stage.label}"'
            known.setdefault(
                name,
                Property(
                    name,
                    label,
                    "datetime",
                    "date",
                    "dealinformation",
                    read_only=True,
                    is_calculated=True,
                ),
            )


def _ids_of_merge(merged: Sequence[Record]) -> Iterator[str]:
    for record in merged:
        earlier = record["hs_merged_object_ids"]
        yield from str(earlier).split(";") if earlier else ()
        yield record.id


def _product(amount: Value, rate: Decimal | None) -> str | None:
    if amount is None or rate is None:
        return None
    try:
        return str(amount) if rate == 1 else f"{Decimal(str(amount)) * rate:f}"
    except DecimalException:
        return None


def _days_to_close(record: Record) -> str | None:
    closed = parsed_instant(str(record["closedate"]))
    created = parsed_instant(str(record["createdate"])) or record.created_at
    return None if closed is None else str(max((closed - created) // timedelta(days=1), 0))


def _word(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum())

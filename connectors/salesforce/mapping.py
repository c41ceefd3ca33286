"""Salesforce's standard objects as canonical streams: where each field comes from.

Decisions that a reader may wonder about:

* A stage's native id is its API name, for that is what ``Opportunity.StageName`` holds
  (``OpportunityStage.ApiName``; the label may be translated or renamed).
* A deal's pipeline is its record type where the org has record types, else ``CONN:default``:
  Salesforce has no other notion of a pipeline. Stages are shared by all record types, so a
  stage's own pipeline is always ``CONN:default``.
* A deal is closed or won by its own flags, also where its stage is no longer in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from connectors.base import ConnectionSettings, FieldSource, Stream, StreamSettings
from connectors.errors import MisconfiguredConnection
from connectors.fieldmap import (
    FieldMap,
    MapRequest,
    NativeRecord,
    compile_fieldmap,
)
from connectors.salesforce.ids import long_id
from connectors.salesforce.schema import MISSING_REMEDY, ObjectShape, OrgSchema
from store.canonical import CanonicalRecord, Key, RecordRef, RejectedRecord, Scalar

CRM: Final = "Salesforce"
DEFAULT_PIPELINE: Final = "default"

CURSOR_COLUMNS: Final = ("SystemModstamp", "LastModifiedDate", "CreatedDate")
"""The first that an object has orders it: only SystemModstamp cannot be back-dated."""

_KIND: Final = {"New Customer": "new", "Existing Customer - Upgrade": "upsell"}


def _from(source: str) -> FieldSource:
    return FieldSource(source)


def _required(source: str) -> FieldSource:
    return FieldSource(source, required=True)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream as Salesforce has it when the configuration says nothing."""

    name: str
    object: str
    fields: Mapping[str, FieldSource]
    may_lack: frozenset[str] = frozenset()
    """Fields that many orgs do not have at all; their absence is no news."""
    key_field: str = "Id"
    """Where the native id of the canonical record stands."""
    is_implied_by: frozenset[str] = frozenset()
    identify_of: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


_AS_IT_IS: Final[Mapping[str, Callable[[str], str]]] = MappingProxyType({"stage": str})

OWNERS: Final = StreamSpec(
    "owners",
    "User",
    {
        "name": _from("Name"),
        "email": _from("Email"),
        "team": _from("UserRole.Name"),
        "manager": _from("ManagerId"),
        "is_active": _from("IsActive"),
        "created_at": _from("CreatedDate"),
    },
    may_lack=frozenset({"team"}),
    is_implied_by=frozenset({"accounts", "deals"}),
)

STAGES: Final = StreamSpec(
    "stages",
    "OpportunityStage",
    {
        "label": _from("MasterLabel"),
        "position": _from("SortOrder"),
        "is_closed": _required("IsClosed"),
        "is_won": _required("IsWon"),
        "probability": _from("DefaultProbability"),
        "is_active": _from("IsActive"),
        "created_at": _from("CreatedDate"),
    },
    may_lack=frozenset({"created_at"}),
    key_field="ApiName",
    is_implied_by=frozenset({"deals"}),
)

ACCOUNTS: Final = StreamSpec(
    "accounts",
    "Account",
    {
        "name": _from("Name"),
        "domain": _from("Website"),
        "owner": _from("OwnerId"),
        "parent": _from("ParentId"),
        "type": _from("Type"),
        "industry": _from("Industry"),
        "country": _from("BillingCountry"),
        "employees": _from("NumberOfEmployees"),
        "annual_revenue": _from("AnnualRevenue"),
        "currency": _from("CurrencyIsoCode"),
        "created_at": _from("CreatedDate"),
    },
    may_lack=frozenset({"currency"}),
)

DEALS: Final = StreamSpec(
    "deals",
    "Opportunity",
    {
        "name": _from("Name"),
        "account": _from("AccountId"),
        "owner": _from("OwnerId"),
        "pipeline": _from("RecordTypeId"),
        "stage": _required("StageName"),
        "is_closed": _required("IsClosed"),
        "is_won": _required("IsWon"),
        "amount": _required("Amount"),
        "close_date": _required("CloseDate"),
        "currency": _from("CurrencyIsoCode"),
        "closed_at": _from("LastStageChangeDate"),
        "probability": _from("Probability"),
        "type": _from("Type"),
        "kind": FieldSource("Type", values=_KIND),
        "source": _from("LeadSource"),
        "campaign": _from("CampaignId"),
        "forecast_category": _from("ForecastCategoryName"),
        "last_activity_at": _from("LastActivityDate"),
        "created_at": _from("CreatedDate"),
    },
    may_lack=frozenset({"pipeline", "currency", "closed_at", "campaign", "last_activity_at"}),
    identify_of=_AS_IT_IS,
)

DEAL_STAGE_CHANGES: Final = StreamSpec(
    "deal_stage_changes",
    "OpportunityHistory",
    {
        "deal": _required("OpportunityId"),
        "stage": _required("StageName"),
        "pipeline": _from("Opportunity.RecordTypeId"),
        "at": _required("CreatedDate"),
        "created_at": _from("CreatedDate"),
    },
    may_lack=frozenset({"pipeline"}),
    is_implied_by=frozenset({"deals"}),
    identify_of=_AS_IT_IS,
)

SPECS: Final[Mapping[str, StreamSpec]] = MappingProxyType(
    {spec.name: spec for spec in (OWNERS, STAGES, ACCOUNTS, DEALS, DEAL_STAGE_CHANGES)}
)
"""In the order in which to pull them."""

_ON_WITHOUT_SETTINGS: Final = ("accounts", "deals")


def streams_of(settings: ConnectionSettings) -> tuple[Stream, ...]:
    """The streams of a connection in pulling order, implied ones included.

    Raises:
        MisconfiguredConnection: a stream is configured that this connector cannot read.
    """
    unknown = sorted(set(settings.streams) - set(SPECS))
    if unknown:
        raise MisconfiguredConnection(
            settings.name,
            f"The Salesforce connector does not read {', '.join(unknown)} yet; it reads"
            f" {', '.join(SPECS)}. Remove the rest from connections.{settings.name}.streams.",
        )
    wanted = set(settings.streams or _ON_WITHOUT_SETTINGS)
    return tuple(
        Stream(spec.name, object_of(settings, spec.name), (spec.name,))
        for spec in SPECS.values()
        if spec.name in wanted or not spec.is_implied_by.isdisjoint(wanted)
    )


def object_of(settings: ConnectionSettings, stream: str) -> str:
    """The object that a stream is read from."""
    return stream_settings(settings, stream).object or SPECS[stream].object


def stream_settings(settings: ConnectionSettings, stream: str) -> StreamSettings:
    """What the configuration says of a stream."""
    return settings.streams.get(stream, StreamSettings())


class StreamMap:
    """One stream ready to be read: its columns, and how a row becomes a record."""

    def __init__(self, settings: ConnectionSettings, stream: str, schema: OrgSchema) -> None:
        spec = SPECS[stream]
        self._spec = spec
        self._connection = settings.name
        self.stream = stream
        self.shape: ObjectShape = schema.shape(object_of(settings, stream))
        self.cursor_column = cursor_column(settings.name, self.shape)
        self._map: FieldMap = compile_fieldmap(map_request(settings, stream, schema))
        self.warnings = self._map.warnings
        self.unreadable = self._map.unreadable
        self._may_be_deleted = self.shape.has("IsDeleted")
        self._may_be_merged = self.shape.has("MasterRecordId")
        pipeline_source = self._map.source_of("pipeline")
        self._pipeline_path = pipeline_source.split(".") if pipeline_source else []
        self._default_pipeline = f"{settings.name}:{DEFAULT_PIPELINE}"

    @property
    def columns(self) -> tuple[str, ...]:
        """What to SELECT: the columns that place and mark a row first."""
        marks = ["Id", self.cursor_column]
        marks += ["IsDeleted"] if self._may_be_deleted else []
        marks += ["MasterRecordId"] if self._may_be_merged else []
        marks += [self._spec.key_field]
        return tuple(dict.fromkeys([*marks, *self._map.sources]))

    @property
    def mark_count(self) -> int:
        """How many of `columns` every query has to carry."""
        return 2 + self._may_be_deleted + self._may_be_merged

    @property
    def sees_deletions(self) -> bool:
        """Records of this object can be deleted, and Salesforce keeps a log of it."""
        return self._may_be_deleted and self.shape.is_replicateable

    @property
    def stage_column(self) -> str | None:
        """Where a deal's stage stands; None: this stream has none, or reads it elsewhere."""
        is_standard = self.stream == "deals" and self._map.source_of("stage") == "StageName"
        return "StageName" if is_standard else None

    def record(self, row: NativeRecord) -> CanonicalRecord | RejectedRecord:
        """Map one row."""
        winner = row.get("MasterRecordId")
        return self._map.record(
            self.ref(str(row.get(self._spec.key_field) or row["Id"])),
            row,
            deleted=row.get("IsDeleted") is True,
            merged_into=self.key(winner) if isinstance(winner, str) else None,
            given=self._given(row),
        )

    def ref(self, native_id: str) -> RecordRef:
        """The identity of a row."""
        is_id = self._spec.key_field == "Id"
        return RecordRef(self._connection, self.stream, long_id(native_id) if is_id else native_id)

    def key(self, native_id: str) -> Key:
        """The key of another record of this org."""
        return f"{self._connection}:{long_id(native_id)}"

    def _given(self, row: NativeRecord) -> Mapping[str, Scalar]:
        """What the field map alone cannot know."""
        given: dict[str, Scalar] = {}
        if self.stream == "stages":
            return {"pipeline": self._default_pipeline, "pipeline_label": "Default"}
        if self.stream in {"deals", "deal_stage_changes"} and not self._has_pipeline(row):
            given["pipeline"] = self._default_pipeline
        # While a deal is open its last change of stage is no closing.
        if self.stream == "deals" and row.get("IsClosed") is False:
            given["closed_at"] = None
        return given

    def _has_pipeline(self, row: NativeRecord) -> bool:
        value: object = row if self._pipeline_path else None
        for name in self._pipeline_path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value is not None and value != ""


def map_request(settings: ConnectionSettings, stream: str, schema: OrgSchema) -> MapRequest:
    """The question to the field map: this stream's fields against what the user sees."""
    spec = SPECS[stream]
    object_name = object_of(settings, stream)
    return MapRequest(
        connection=settings.name,
        crm=CRM,
        stream=stream,
        object=object_name,
        company=settings.company,
        defaults={
            **spec.fields,
            "modified_at": FieldSource(
                cursor_column(settings.name, schema.shape(object_name)), required=True
            ),
        },
        own=stream_settings(settings, stream).fields,
        look_up=lambda source: schema.look_up(object_name, source),
        missing_remedy=MISSING_REMEDY,
        may_lack=spec.may_lack,
        identify=long_id,
        identify_of=spec.identify_of,
    )


def cursor_column(connection: str, shape: ObjectShape) -> str:
    """The column that orders an object by change.

    Raises:
        MisconfiguredConnection: it has none, so increments cannot be read.
    """
    for name in CURSOR_COLUMNS:
        if shape.has(name):
            return name
    raise MisconfiguredConnection(
        connection,
        f"{shape.name} has none of {', '.join(CURSOR_COLUMNS)} that the connected user may see,"
        " so its changes cannot be read. Give the user read access to the object.",
    )

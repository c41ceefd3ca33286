"""One Salesforce stream ready to be read: its columns, its conditions, how a row becomes a record.

Person accounts: one human is an Account (``IsPersonAccount``) with a shadow Contact. The account
is the record; the shadow is told as merged into it, so nobody is counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simple_salesforce.format import format_soql

from connectors.base import ConnectionSettings, FieldSource
from connectors.errors import MisconfiguredConnection
from connectors.fieldmap import (
    FieldMap,
    MapRequest,
    NativeRecord,
    compile_fieldmap,
)
from connectors.salesforce.ids import is_id, long_id
from connectors.salesforce.schema import MISSING_REMEDY, ObjectShape, OrgSchema
from connectors.salesforce.streams import (
    CURSOR_COLUMNS,
    DEFAULT_PIPELINE,
    SPECS,
    StreamSpec,
    object_of,
    spec_of,
    stream_settings,
    streams_of,
)
from store.canonical import CanonicalRecord, Key, RecordRef, RejectedRecord, Scalar

__all__ = [
    "CRM", "SPECS", "StreamMap", "cursor_column", "map_request", "object_of", "stream_settings",
    "streams_of",
]  # fmt: skip

CRM: Final = "Salesforce"
_MASTER_RECORD_TYPE: Final = "012000000000000AAA"
"""What some objects hold where an org has no record types."""
_WITH_PIPELINE: Final = frozenset({"deals", "deal_stage_changes", "tickets"})


class StreamMap:
    """One stream against what the connected user sees of its object.

    Args:
        settings: The connection.
        stream: A canonical stream.
        schema: What the user sees.
        spec: Other rules than the stream's usual ones.

    Raises:
        ObjectAbsent: the user sees no such object.
        StreamPaused: a required field is missing or not visible.
        MisconfiguredConnection: the mapping cannot work.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        stream: str,
        schema: OrgSchema,
        spec: StreamSpec | None = None,
    ) -> None:
        spec = spec or spec_of(settings, stream)
        self._connection = settings.name
        self.stream = stream
        self.shape: ObjectShape = schema.shape(_object(settings, spec))
        self.cursor_column = cursor_column(settings.name, self.shape)
        request = map_request(settings, stream, schema, spec)
        self._map: FieldMap = compile_fieldmap(request)
        self.unreadable = self._map.unreadable
        self.volatile = _volatile(request, self._map)
        """Sources whose changes move no change time of their row."""
        self.volatile_fields = {
            name: f"{self.shape.name}.{source}"
            for name in sorted(self._map.mapped)
            if (source := self._map.source_of(name)) in self.volatile
        }
        """Mapped field -> the source of it that is volatile."""
        self.warnings = self._map.warnings
        self._conditions = _conditions(settings, spec, self.shape)
        self._booleans = frozenset(
            source
            for source in self._map.sources
            if (native := schema.look_up(self.shape.name, source)) and native.type == "boolean"
        )
        self._marks = [
            name for name in ("IsDeleted", "MasterRecordId") if self.shape.has(name)
        ]  # fmt: skip
        if stream == "contacts" and self.shape.has("IsPersonAccount"):
            self._marks += ["IsPersonAccount", "AccountId"]
        pipeline_source = self._map.source_of("pipeline")
        self._pipeline_path = pipeline_source.split(".") if pipeline_source else []
        self._default_pipeline = f"{settings.name}:{DEFAULT_PIPELINE}"
        self._touch_source = self._map.source_of("at") if stream == "campaign_members" else None

    @property
    def columns(self) -> tuple[str, ...]:
        """What to SELECT: the columns that place and mark a row first."""
        return tuple(dict.fromkeys(["Id", self.cursor_column, *self._marks, *self._map.sources]))

    @property
    def mark_count(self) -> int:
        """How many of `columns` every query has to carry."""
        return len(dict.fromkeys(["Id", self.cursor_column, *self._marks]))

    @property
    def booleans(self) -> frozenset[str]:
        """Columns of true and false."""
        return self._booleans | {"IsDeleted", "IsPersonAccount"}

    @property
    def where(self) -> str | None:
        """What every row meets, as SOQL."""
        return " AND ".join(self._conditions) or None

    @property
    def live_where(self) -> str | None:
        """What a row meets that counts as a live record of the stream, as SOQL."""
        parts = [*self._conditions]
        if "IsPersonAccount" in self._marks:
            parts.append("IsPersonAccount = false")
        if self._touch_source not in {None, "CreatedDate"}:
            parts.append(f"{self._touch_source} != null")
        return " AND ".join(parts) or None

    @property
    def sees_deletions(self) -> bool:
        """Records of this object can be deleted, and Salesforce keeps a log of it."""
        return "IsDeleted" in self._marks and self.shape.is_replicateable

    def links_to(self, object_name: str) -> tuple[str, ...]:
        """Columns that point to records of an object."""
        return tuple(
            source
            for source in self._map.sources
            if object_name in ((self.shape.field(source) or {}).get("referenceTo") or ())
        )

    @property
    def stage_column(self) -> str | None:
        """Where a deal's stage stands; None: this stream has none, or reads it elsewhere."""
        is_standard = self.stream == "deals" and self._map.source_of("stage") == "StageName"
        return "StageName" if is_standard else None

    def is_record(self, row: NativeRecord) -> bool:
        """Whether a row stands for a record: a member who has not responded is no touch."""
        return self._touch_source is None or row.get(self._touch_source) is not None

    def record(self, row: NativeRecord) -> CanonicalRecord | RejectedRecord:
        """Map one row."""
        winner = row.get("MasterRecordId")
        is_shadow = row.get("IsPersonAccount") is True
        if is_shadow:
            winner = row.get("AccountId")
        return self._map.record(
            self.ref(row["Id"]),
            row,
            deleted=is_shadow or row.get("IsDeleted") is True,
            merged_into=self.key(winner) if isinstance(winner, str) else None,
            given=self._given(row),
        )

    def ref(self, native_id: str) -> RecordRef:
        """The identity of a row."""
        return RecordRef(self._connection, self.stream, long_id(native_id))

    def key(self, native_id: str) -> Key:
        """The key of another record of this org."""
        return f"{self._connection}:{long_id(native_id)}"

    def _given(self, row: NativeRecord) -> Mapping[str, Scalar]:
        """What the field map alone cannot know."""
        given: dict[str, Scalar] = {}
        if self.stream in _WITH_PIPELINE and not self._has_pipeline(row):
            given["pipeline"] = self._default_pipeline
        # While a deal is open its last change of stage is no closing.
        if self.stream == "deals" and row.get("IsClosed") is False:
            given["closed_at"] = None
        return given

    def _has_pipeline(self, row: NativeRecord) -> bool:
        value: object = row if self._pipeline_path else None
        for name in self._pipeline_path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return isinstance(value, str) and bool(value) and long_id(value) != _MASTER_RECORD_TYPE


def map_request(
    settings: ConnectionSettings, stream: str, schema: OrgSchema, spec: StreamSpec | None = None
) -> MapRequest:
    """The question to the field map: this stream's fields against what the user sees."""
    spec = spec or spec_of(settings, stream)
    object_name = _object(settings, spec)
    shape = schema.shape(object_name)
    defaults = dict(spec.fields)
    if not spec.is_list:
        # A list is read whole, in whatever order; only increments need a change time.
        column = cursor_column(settings.name, shape)
        defaults["modified_at"] = FieldSource(column, required=True)
    return MapRequest(
        connection=settings.name,
        crm=CRM,
        stream=stream,
        object=object_name,
        company=settings.company,
        defaults=defaults,
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


def _object(settings: ConnectionSettings, spec: StreamSpec) -> str:
    return (
        spec.object
        if spec is not SPECS[spec.name] and spec.object
        else object_of(settings, spec.name)
    )


def _volatile(request: MapRequest, compiled: FieldMap) -> tuple[str, ...]:
    """Formulas and roll-ups, and the parents' fields that the configuration maps."""
    own = {
        native.name
        for source in request.own.values()
        if "." in source.source and (native := request.look_up(source.source)) is not None
    }
    return tuple(dict.fromkeys([*compiled.calculated, *sorted(own)]))


def _conditions(settings: ConnectionSettings, spec: StreamSpec, shape: ObjectShape) -> list[str]:
    said = stream_settings(settings, spec.name)
    found = [spec.only, said.where or "", _of_pipelines(settings, spec, shape)]
    return [f"({condition})" for condition in found if condition]


def _of_pipelines(settings: ConnectionSettings, spec: StreamSpec, shape: ObjectShape) -> str:
    """The record types that `pipelines` names, by name, developer name or id."""
    wanted = stream_settings(settings, spec.name).pipelines
    if not wanted:
        return ""
    place = f"connections.{settings.name}.streams.{spec.name}.pipelines"
    if not shape.has("RecordTypeId"):
        raise MisconfiguredConnection(
            settings.name,
            f"{place}: {shape.name} has no record types that the connected user sees, so it has"
            " one pipeline. Remove the key, or use where.",
        )
    ids = [long_id(name) for name in wanted if is_id(name) and name.startswith("012")]
    names = [name for name in wanted if long_id(name) not in ids]
    parts = [format_soql("RecordTypeId IN {}", ids)] if ids else []
    if names:
        parts.append(format_soql("RecordType.Name IN {}", names))
        parts.append(format_soql("RecordType.DeveloperName IN {}", names))
    if any(name.lower() == DEFAULT_PIPELINE for name in names):
        parts.append("RecordTypeId = null")
    return " OR ".join(parts)

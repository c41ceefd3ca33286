"""Connections as the configuration has them: what is read from where, and how to log in.

Every description here is also the key's paragraph for editors (`kpisync schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
)

from config.installed import BUILT_IN, further_types
from config.scalars import (
    Boolean,
    CrmObject,
    CrmPath,
    Cron,
    Interval,
    Name,
    PercentOrCount,
    Reads,
    Schedule,
    Secret,
    Text,
    WebAddress,
    Word,
    read_text,
)
from config.section import Section

FieldType: TypeAlias = Literal[
    "text", "integer", "number", "money", "percent", "date", "datetime", "boolean", "ref"
]


def _natives(value: object) -> object:
    return (value,) if isinstance(value, str) else value


NativeValues: TypeAlias = Annotated[
    tuple[Text, ...],
    BeforeValidator(
        _natives,
        json_schema_input_type=str | tuple[str, ...],
    ),
]


class FieldSource(Section):
    """Where a field of a stream comes from."""

    source: CrmPath = Field(alias="from")
    """The CRM's API name of the field, or a path to a parent's field (Account.Region__c)."""
    type: FieldType | None = None
    """How to read it; by default as the CRM describes the field."""
    values: Mapping[Text, NativeValues] = Field(default_factory=dict)
    """Canonical value: the CRM's values that mean it; what is not listed stays as it is."""
    required: Boolean = False
    """Whether the stream pauses when the field vanishes or becomes unreadable."""

    def canonical_values(self) -> Mapping[str, str]:
        """CRM value -> canonical value."""
        return {
            native: canonical for canonical, natives in self.values.items() for native in natives
        }


def _long_source(value: object) -> object:
    return {"from": value} if isinstance(value, str) else value


MappedField: TypeAlias = Annotated[
    FieldSource, BeforeValidator(_long_source, json_schema_input_type=str | FieldSource)
]

CONFIGURABLE_STREAMS = (
    "accounts", "contacts", "leads", "deals", "campaigns", "campaign_members",
    "email_statistics", "costs", "tickets", "survey_responses", "contracts",
)  # fmt: skip
IMPLIED_STREAMS: Mapping[str, str] = {
    "owners": "the connection", "stages": "deals", "deal_stage_changes": "deals",
    "deal_contacts": "deals", "deal_lines": "deals", "ticket_status_changes": "tickets",
    "rates": "company.fx",
}  # fmt: skip
StreamName: TypeAlias = Literal[
    "accounts", "contacts", "leads", "deals", "campaigns", "campaign_members",
    "email_statistics", "costs", "tickets", "survey_responses", "contracts",
]  # fmt: skip


class Stream(Section):
    """What is read of one kind of record; standard fields map themselves."""

    object: CrmObject | None = None
    """The CRM's own name of the object."""
    where: Text | None = None
    """An additional filter, in the CRM's own language."""
    pipelines: tuple[Text, ...] = ()
    """Labels or ids of the pipelines to read; all of them by default."""
    fields: Mapping[Word, MappedField] = Field(default_factory=dict)
    """Own mappings: a canonical or own field name, and where it comes from."""
    touch: Literal["created", "responded"] | None = None
    """What counts as a campaign touch."""
    converted_stage: Text | None = None
    """The lifecycle stage at which a lead counts as converted."""
    api: Literal["rest", "bulk"] | None = None
    """Salesforce: read by REST pages or by Bulk API 2.0; by default whichever is cheaper."""


class Limits(Section):
    """How much of the CRM's quota this connection may use."""

    daily_calls: PercentOrCount | None = None
    """Calls in any 24 hours, as a number or a share of the org's limit."""


def _default_streams() -> dict[StreamName, Stream]:
    return {"accounts": Stream(), "deals": Stream()}


class ConnectionSection(Section):
    """What connections to every CRM have in common."""

    base_url: WebAddress | None = None
    """Another address for the CRM (sandbox, proxy); its host must be in security.allow_hosts."""
    api_version: Text | None = None
    """The version of the CRM's API, in quotes."""
    limits: Limits = Limits()
    """How much of the CRM's quota may be used."""
    every: Schedule = Interval(timedelta(minutes=15))
    """When to pull changes: an interval (15m) or five cron fields in the company's zone."""
    full_refresh: Schedule = Cron("0 3 * * SUN")
    """When to read everything again, to find hard deletions and lost links."""
    streams: Mapping[StreamName, Stream] = Field(default_factory=_default_streams)
    """What to read; accounts and deals by default. Owners, stages and histories are implied."""


class AuthSection(Section):
    """Credentials; secrets by reference (${VAR}, ${file:/path})."""

    def resolved(self) -> dict[str, str]:
        """Every credential in plain text, by its key, `flow` included; never log this."""
        found: dict[str, str] = {}
        for name, value in self:
            if isinstance(value, SecretStr):
                found[name] = value.get_secret_value()
            elif value is not None:
                found[name] = str(value)
        return found


class SalesforceClientCredentials(AuthSection):
    """OAuth client credentials of an external client app."""

    flow: Literal["client_credentials"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """The org's My Domain without .salesforce.com: acme.my."""
    client_id: Secret
    """The consumer key of the external client app."""
    client_secret: Secret
    """The consumer secret of the external client app."""


class SalesforceJwt(AuthSection):
    """OAuth JWT bearer with a certificate."""

    flow: Literal["jwt"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """The org's My Domain without .salesforce.com."""
    username: Secret
    """The integration user."""
    client_id: Secret
    """The consumer key."""
    private_key: Secret
    """The private key in PEM form."""


class SalesforceToken(AuthSection):
    """A ready access token."""

    flow: Literal["token"]
    """Which way of logging in; it decides the other keys."""
    access_token: Secret
    """The token or session id."""
    instance_url: WebAddress | None = None
    """The org's address: https://acme.my.salesforce.com."""


class SalesforcePassword(AuthSection):
    """SOAP login (legacy)."""

    flow: Literal["password"]
    """Which way of logging in; it decides the other keys."""
    domain: Text | None = None
    """login, test or the org's My Domain."""
    username: Secret
    """The integration user."""
    password: Secret
    """Its password."""
    security_token: Secret | None = None
    """Its security token."""


class HubspotToken(AuthSection):
    """A service key or private app token."""

    flow: Literal["token"]
    """Which way of logging in; it decides the other keys."""
    token: Secret
    """The token (pat-...)."""
    webhook_secret: Secret | None = None
    """The client secret of the app whose webhooks ring at /hooks/NAME of `kpisync web`."""


class HubspotRefreshToken(AuthSection):
    """OAuth with a refresh token."""

    flow: Literal["refresh_token"]
    """Which way of logging in; it decides the other keys."""
    client_id: Secret
    """The app's client id."""
    client_secret: Secret
    """The app's client secret."""
    refresh_token: Secret
    """The refresh token."""
    webhook_secret: Secret | None = None
    """The client secret of the app whose webhooks ring at /hooks/NAME; by default the same."""


def _tag(value: object, key: str) -> str | None:
    chosen = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    return f"{key}={chosen}" if isinstance(chosen, str) else None


def _flow_of(value: object) -> str | None:
    return _tag(value, "flow")


def _type_of(value: object) -> str | None:
    tag = _tag(value, "type")
    is_further = tag is not None and tag.removeprefix("type=") in further_types()
    return FURTHER_TYPE if is_further else tag


UNKNOWN_FLOW = "unknown_flow"
UNKNOWN_TYPE = "unknown_type"
FURTHER_TYPE = "type=..."
"""The tag of connections whose type another package brings."""

SalesforceAuth: TypeAlias = Annotated[
    Annotated[SalesforceClientCredentials, Tag("flow=client_credentials")]
    | Annotated[SalesforceJwt, Tag("flow=jwt")]
    | Annotated[SalesforceToken, Tag("flow=token")]
    | Annotated[SalesforcePassword, Tag("flow=password")],
    Discriminator(_flow_of, custom_error_type=UNKNOWN_FLOW, custom_error_message="unknown flow"),
]
HubspotAuth: TypeAlias = Annotated[
    Annotated[HubspotToken, Tag("flow=token")]
    | Annotated[HubspotRefreshToken, Tag("flow=refresh_token")],
    Discriminator(_flow_of, custom_error_type=UNKNOWN_FLOW, custom_error_message="unknown flow"),
]


class FileColumn(FieldSource):
    """Which column of a file a field of a stream is read from."""

    source: Text = Field(alias="from")
    """The column's heading, or the key of a JSON line."""
    of: Name | None = None
    """For a link: the connection whose record ids stand in the column."""


MappedColumn: TypeAlias = Annotated[
    FileColumn, BeforeValidator(_long_source, json_schema_input_type=str | FileColumn)
]


def _columns_of_key(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FileStream(Stream):
    """Files that hold one kind of record."""

    object: Text | None = None
    """Which files, by a pattern within the folder (costs-*.csv); by default STREAM.*."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings; columns that are headed like a field map themselves."""
    key: Annotated[
        tuple[Text, ...],
        BeforeValidator(_columns_of_key, json_schema_input_type=str | tuple[str, ...]),
    ] = ()
    """Columns that tell rows apart; by default id, or all columns together."""
    snapshot: Boolean = True
    """Whether the files hold all records: a row that is gone then means a deletion."""
    encoding: Text | None = None
    """Of text files; by default UTF-8, or what their first bytes say, or Windows-1252."""
    delimiter: Text | None = None
    """Between the cells of a CSV file; by default found out."""
    decimal: Literal[".", ","] = "."
    """The decimal mark; with a comma, points and spaces group thousands."""


class QueryStream(Stream):
    """Rows of a query that are one kind of record."""

    query: Text
    """One SELECT; its columns are what fields are mapped from."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings; columns that are named like a field map themselves."""
    key: Text = "id"
    """The column that tells rows apart."""
    cursor: Text | None = None
    """A column that rises with every change (an instant or a number); without it all rows are
    read each time, and rows that are gone are deletions."""


class SqlAuth(AuthSection):
    """How to reach a database."""

    url: Secret
    """An SQLAlchemy URL: postgresql+psycopg://READER:PASSWORD@HOST/NAME; its driver is installed
    by you."""


class SqlConnection(ConnectionSection):
    """Queries on a database, read only."""

    type: Literal["sql"]
    """What kind of source this is."""
    auth: SqlAuth
    """How to log in."""
    streams: Mapping[StreamName, QueryStream] = Field(min_length=1)
    """What the queries bring."""


class NoAuth(AuthSection):
    """Nothing to log in to."""


class FilesConnection(ConnectionSection):
    """Files in a folder: CSV, JSON lines, Parquet."""

    type: Literal["files"]
    """What kind of source this is."""
    folder: Text
    """Where the files are; relative to the configuration file."""
    streams: Mapping[StreamName, FileStream] = Field(min_length=1)
    """What the files hold."""
    auth: NoAuth = NoAuth()
    """Files need none."""


class SalesforceConnection(ConnectionSection):
    """One Salesforce org."""

    type: Literal["salesforce"]
    """Which CRM this is."""
    auth: SalesforceAuth
    """How to log in."""


class HubspotConnection(ConnectionSection):
    """One HubSpot account."""

    type: Literal["hubspot"]
    """Which CRM this is."""
    auth: HubspotAuth
    """How to log in."""


class FurtherAuth(AuthSection):
    """Credentials by the names that the connector's own documentation gives."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Secret]

    flow: Text | None = None
    """Which way of logging in, where there are several; the one key here that is no secret."""


class FurtherStream(Stream):
    """What a connector of another package reads of one kind of record."""

    object: Text | None = None
    """The source's own name of the object."""
    fields: Mapping[Word, MappedColumn] = Field(default_factory=dict)
    """Own mappings: a canonical or own field name, and where it comes from."""
    options: Mapping[Word, Text] = Field(default_factory=dict)
    """What the connector's own documentation names; kpisync passes it through."""


def _no_credentials() -> FurtherAuth:
    return FurtherAuth.model_validate({})


def _default_further_streams() -> dict[StreamName, FurtherStream]:
    return {"accounts": FurtherStream(), "deals": FurtherStream()}


class FurtherConnection(ConnectionSection):
    """A connection whose type another package brings (docs/writing-a-connector.md)."""

    type: Annotated[
        str, Reads(read_text, {"type": "string", "minLength": 1, "not": {"enum": list(BUILT_IN)}})
    ]
    """What kind of source this is."""
    auth: FurtherAuth = Field(default_factory=_no_credentials)
    """How to log in."""
    options: Mapping[Word, Text] = Field(default_factory=dict)
    """Types of other packages: what the connector's own documentation names."""
    streams: Mapping[StreamName, FurtherStream] = Field(default_factory=_default_further_streams)
    """What to read; accounts and deals by default."""


Connection: TypeAlias = Annotated[
    Annotated[SalesforceConnection, Tag("type=salesforce")]
    | Annotated[HubspotConnection, Tag("type=hubspot")]
    | Annotated[FilesConnection, Tag("type=files")]
    | Annotated[SqlConnection, Tag("type=sql")]
    | Annotated[FurtherConnection, Tag(FURTHER_TYPE)],
    Discriminator(_type_of, custom_error_type=UNKNOWN_TYPE, custom_error_message="unknown type"),
]

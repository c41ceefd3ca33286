"""The text of a first configuration: what was found is active, what is likely is a comment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from connectors.base import DiscoveredField, DiscoveredObject
from connectors.fieldmap import canonical_fields
from store.canonical import Stage
from worker.cli.discovery import fill_share, named_fields
from worker.cli.firstlook import CrmLook, StreamLook, answered_field, score_field
from worker.cli.logins import Login
from worker.cli.output import printable

LEAST_FILLED: Final = 0.05
"""Own fields that fewer records hold are not proposed."""
SURELY_FILLED: Final = 0.5
"""From this share on an own field that is named like one of ours is mapped at once."""

_MOST_PROPOSED: Final = 12
_MOST_VALUES: Final = 8
_REMARK: Final = 180
_SENTENCE: Final = 400
"""Characters of a comment beside a line, and of one that says why and what to do."""
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip

_SURE: Final[Mapping[str, frozenset[str]]] = {
    "accounts": frozenset({"segment", "region", "contract_end"}),
    "contacts": frozenset({"nps_score"}),
    "leads": frozenset({"qualified_at"}),
    "deals": frozenset({"product", "segment", "region"}),
    "tickets": frozenset({"csat", "first_response_at"}),
    "contracts": frozenset({"amount"}),
}
"""Canonical fields that no standard field of a CRM fills, so that an own one takes nothing away."""
_ALSO_CALLED: Final[Mapping[tuple[str, str], str]] = {
    ("tickets", "x_first_response"): "first_response_at",
    ("tickets", "x_first_reply"): "first_response_at",
    ("accounts", "x_contract_end_date"): "contract_end",
    ("contacts", "x_last_nps"): "nps_score",
}
_NATIVE_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"string", "picklist", "enumeration"}),
    "date": frozenset({"date", "datetime"}),
    "datetime": frozenset({"datetime"}),
    "money": frozenset({"currency", "double", "number"}),
    "number": frozenset({"double", "int", "number", "percent"}),
    "integer": frozenset({"double", "int", "number"}),
}
"""Type of a canonical field -> the CRMs' words for types that surely fit."""
_OURS: Final = re.compile(r"kpi_", re.IGNORECASE)
"""Fields that `kpisync setup` made."""
_DEAL_TYPES: Final = frozenset({"Type", "dealtype"})
_KINDS: Final = (
    ("renewal", re.compile(r"renew", re.IGNORECASE)),
    ("upsell", re.compile(r"up.?sell|cross.?sell|upgrade|expan|existing|add.?on", re.IGNORECASE)),
    ("new", re.compile(r"new", re.IGNORECASE)),
)

_PACKS: Final[Mapping[str, tuple[str, ...]]] = {
    "sales": ("deals",),
    "customer": ("deals",),
    "marketing": ("leads", "campaigns", "campaign_members", "email_statistics"),
    "service": ("tickets", "survey_responses"),
}
"""Pack of KPIs -> streams of which one is enough to use it."""
_WRITTEN: Final = ("revenue", "win_rate", "open_value", "purchases", "sales_cycle_days")
_GROUPS: Final = ("segment", "region")


@dataclass(frozen=True, slots=True)
class CrmKind:
    """How a first configuration speaks of one kind of CRM."""

    type: str
    label: str
    every: str
    full_refresh: str
    writeback: str
    written_object: str
    stamp: str
    page: str
    """Where its credentials and rights are explained."""

    def field_name(self, kpi: str) -> str:
        """The field that is to carry a KPI, as this CRM writes names."""
        if self.type == "salesforce":
            return "KPI_" + "_".join(part.capitalize() for part in kpi.split("_")) + "__c"
        return f"kpi_{kpi}"


KINDS: Final[Mapping[str, CrmKind]] = {
    "salesforce": CrmKind(
        type="salesforce",
        label="Salesforce",
        every="15m",
        full_refresh="0 3 * * sun",
        writeback="account_kpis",
        written_object="Account",
        stamp="KPI_Updated__c",
        page="docs/salesforce.md",
    ),
    "hubspot": CrmKind(
        type="hubspot",
        label="HubSpot",
        every="10m",
        full_refresh="30 3 * * sun",
        writeback="company_kpis",
        written_object="companies",
        stamp="kpi_updated",
        page="docs/hubspot.md",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """How one CRM is reached."""

    kind: CrmKind
    login: Login
    domain: str | None = None
    base_url: str | None = None
    host: str | None = None
    """The host of `base_url`, to be allowed."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Key of `auth` -> where its value is."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that the text is made of."""

    accesses: Sequence[Access]
    currency: str
    timezone: str
    company: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    """Key of `company` -> where its value comes from."""
    looks: Mapping[str, CrmLook] = field(default_factory=dict)
    """Connection -> what was found; empty: the text to look around with."""
    skip: Sequence[str] = ()
    """KPIs of the packs that nothing feeds."""
    skipped_for: Sequence[str] = ()
    """The streams that they lack."""


def first_yaml(draft: Draft) -> str:
    """The configuration as text; with nothing found yet the least that can log in."""
    parts = [
        _head(draft),
        _company(draft),
        ["connections:", *(line for one in draft.accesses for line in _connection(draft, one))],
    ]
    if draft.looks:
        parts += [_identity(draft), _kpis(draft), _writebacks(draft), _alerts()]
    parts.append(_security(draft))
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def packs_of(draft: Draft) -> list[str]:
    """The packs of KPIs for which there is something to count."""
    return [pack for pack, streams in _PACKS.items() if _feeding(draft, streams)]


def _feeding(draft: Draft, streams: Sequence[str]) -> dict[str, list[str]]:
    """Stream -> the connections that have something of it."""
    found = {
        stream: [name for name, one in draft.looks.items() if one.stream(stream)]
        for stream in streams
    }
    return {stream: names for stream, names in found.items() if names}


# ---------------------------------------------------------------- head and company


def _head(draft: Draft) -> list[str]:
    labels = " and ".join(one.kind.label for one in draft.accesses)
    return [
        f"# Made by `kpisync init` from what {labels} showed. Lines in comments are proposals:",
        "# take the # away from those that are right. docs/configuration.md explains every key,",
        "# `kpisync check` finds mistakes. No secret stands here: ${NAME} is read from the",
        "# environment, ${file:/path} from a file.",
        "version: 1",
        'database: "${KPISYNC_DATABASE_URL:-sqlite:///kpisync.db}"',
    ]


def _company(draft: Draft) -> list[str]:
    lines = ["company:"]
    if draft.company:
        lines.append(f"  name: {quoted(draft.company)}{_note(draft, 'name')}")
    lines.append(f"  currency: {draft.currency}{_note(draft, 'currency')}")
    lines += _rates(draft)
    lines.append(f"  timezone: {draft.timezone}{_note(draft, 'timezone')}")
    months = {
        one.books.fiscal_year_starts: name
        for name, one in draft.looks.items()
        if one.books.fiscal_year_starts not in {None, 1}
    }
    for month, name in months.items():
        lines.append(f"  fiscal_year_starts: {_MONTHS[(month or 1) - 1]}   # as {name} has it")
    if draft.looks:
        lines.append('  # business_hours: {days: mon-fri, open: "09:00", close: "17:30"}')
    return lines


def _note(draft: Draft, key: str) -> str:
    return f"   # {plain(draft.notes[key])}" if key in draft.notes else ""


def _rates(draft: Draft) -> Iterator[str]:
    """Unlike currencies are never added up: whoever has several needs rates."""
    others = sorted(
        {
            code
            for one in draft.looks.values()
            for code in (one.books.currency, *one.books.more_currencies)
            if code and code != draft.currency
        }
    )
    if not others:
        return
    listed = ", ".join(others)
    giver = next(
        (
            name
            for name, one in draft.looks.items()
            if one.books.gives_rates and _rates_fit(one, draft.currency)
        ),
        None,
    )
    if giver is not None:
        yield f"  fx: {{from: {giver}}}   # amounts in {listed} too; the CRM keeps the rates"
        return
    table = ", ".join(f"{code}: 1.0" for code in others)
    yield f"  # Amounts in {listed} too: without rates they are left out and counted as such."
    yield f"  # fx: {{table: {{{table}}}}}   # {draft.currency} for one unit; or {{file: fx.csv}}"


def _rates_fit(look: CrmLook, currency: str) -> bool:
    # Salesforce converts between any two of its currencies, HubSpot only to its account's own.
    return look.books.currency == currency or (
        look.connection == "salesforce" and currency in look.books.more_currencies
    )


# ---------------------------------------------------------------- connections


def _connection(draft: Draft, access: Access) -> Iterator[str]:
    kind = access.kind
    look = draft.looks.get(kind.type)
    yield f"  {kind.type}:"
    yield f"    type: {kind.type}"
    if access.base_url:
        yield f"    base_url: {quoted(access.base_url)}"
    yield "    auth:"
    yield f"      flow: {access.login.flow}   # {kind.page} has the other ways to log in"
    if access.domain and access.login.address_key == "domain":
        yield f"      domain: {access.domain}"
    elif access.domain and access.login.address_key is not None:
        address = quoted(f"https://{access.domain}.salesforce.com")
        yield f"      {access.login.address_key}: {address}"
    for key, reference in access.references.items():
        yield f'      {key}: "{reference}"'
    if look is None:
        return
    yield f"    every: {kind.every}"
    yield f'    full_refresh: "{kind.full_refresh}"   # finds hard deletions and lost links'
    yield from _streams(look)


def _streams(look: CrmLook) -> Iterator[str]:
    if look.is_cut_short:
        yield f"    # Time was up before all objects were seen: kpisync discover {look.connection}"
    if any(one.is_useful for one in look.streams):
        yield "    streams:"
    for one in look.streams:
        if one.is_useful:
            yield from _stream(look.connection, one)
    for one in look.streams:
        if one.obstacle is not None:
            yield f"      # {one.name}: {{}}   # {plain(one.obstacle, longest=_SENTENCE)}"
        elif not one.is_useful:
            yield f"      # {one.name}: {{}}   # {one.object} is empty so far"


def _stream(connection: str, look: StreamLook) -> Iterator[str]:
    count = "" if look.count is None else f"   # {look.count:,} records"
    found = look.found
    about = [] if found is None else [*_stage_lines(look.name, found)]
    if look.is_proposed_object and found is not None:
        fields = [f"          {line}" for line in _survey_fields(found)]
    else:
        fields = [] if found is None else [*_field_lines(connection, look.name, found)]
    if not about and not fields:
        yield f"      {look.name}: {{}}{count}"
        return
    yield f"      {look.name}:{count}"
    for line in about:
        yield f"        {line}"
    yield f"        object: {look.object}"
    if any(not line.lstrip().startswith("#") for line in fields):
        yield "        fields:"
        yield from fields
    elif fields:
        yield "        # fields:"
        yield from (f"        #   {line.lstrip().removeprefix('# ')}" for line in fields)


# ---------------------------------------------------------------- stages and fields


def _stage_lines(stream: str, found: DiscoveredObject) -> Iterator[str]:
    pipelines: dict[str, list[Stage]] = {}
    for stage in found.stages:
        name = stage.pipeline_label or stage.pipeline or "Default"
        pipelines.setdefault(name, []).append(stage)
    for name, stages in pipelines.items():
        listed = ", ".join(_told(stage, stream) for stage in stages if stage.is_active)
        if listed:
            yield f"# {plain(name)}: {plain(listed, longest=_SENTENCE)}"
    if len(pipelines) > 1:
        names = ", ".join(quoted(name) for name in pipelines)
        yield f"# pipelines: [{names}]   # keep those to read; all of them by default"


def _told(stage: Stage, stream: str) -> str:
    label = stage.label or stage.ref.native_id
    if stage.is_won:
        return f"{label} (won)"
    if stage.is_closed:
        return f"{label} (lost)" if stream == "deals" else f"{label} (closed)"
    if stage.probability is None:
        return label
    return f"{label} ({stage.probability * 100:.0f} %)"


def _field_lines(connection: str, stream: str, found: DiscoveredObject) -> Iterator[str]:
    own = [one for one in found.fields if one.is_custom and not _OURS.match(one.name)]
    worth = [one for one in own if _share(one, found) >= LEAST_FILLED]
    # The fullest first: they are the likeliest to be meant, and to win a name.
    worth.sort(key=lambda one: (-_share(one, found), one.name))
    active: list[str] = []
    proposed: list[str] = []
    taken: set[str] = set()
    for name, one in named_fields(worth, stream):
        called = _ALSO_CALLED.get((stream, name), name)
        line = f"{called}: {one.name}   # {_about(one, found)}"
        if called not in taken and _is_sure(stream, called, one, found):
            active.append(f"          {line}")
        else:
            proposed.append(f"          # {line}")
        taken.add(called)
    yield from active
    if stream == "deals":
        yield from (f"          # {line}" for line in _kind_line(found))
    yield from proposed[:_MOST_PROPOSED]
    hidden = len(own) - len(active) - len(proposed[:_MOST_PROPOSED])
    if hidden > 0:
        few = f"hardly filled or many; kpisync discover {connection}.{stream}"
        yield f"          # {hidden} more of your own fields ({few})"


def _share(one: DiscoveredField, found: DiscoveredObject) -> float:
    if not found.sampled or one.filled is None:
        return 0.0
    return one.filled / found.sampled


def _is_sure(stream: str, name: str, one: DiscoveredField, found: DiscoveredObject) -> bool:
    wanted = canonical_fields(stream).get(name, "")
    return (
        name in _SURE.get(stream, frozenset())
        and one.type in _NATIVE_KINDS.get(wanted, frozenset())
        and not one.is_calculated
        and _share(one, found) >= SURELY_FILLED
    )


def _about(one: DiscoveredField, found: DiscoveredObject) -> str:
    parts = [one.type]
    if share := fill_share(one, found):
        parts.append(f"{share} filled")
    if one.is_calculated:
        parts.append("calculated: changes without a trace")
    if one.values:
        parts.append(", ".join(one.values[:_MOST_VALUES]))
    return plain("; ".join(parts))


def _kind_line(found: DiscoveredObject) -> Iterator[str]:
    """What deals are: the company's own words for new business, upsell and renewal."""
    source = next((one for one in found.fields if one.name in _DEAL_TYPES and one.values), None)
    if source is None:
        return
    values: dict[str, list[str]] = {}
    for value in source.values[:_MOST_VALUES]:
        kind = next((name for name, words in _KINDS if words.search(value)), None)
        if kind is not None:
            values.setdefault(kind, []).append(value)
    listed = ", ".join(
        f"{kind}: [{', '.join(map(quoted, of))}]" for kind, of in sorted(values.items())
    )
    if listed:
        known = ", ".join(source.values[:_MOST_VALUES])
        yield (
            f"kind: {{from: {source.name}, values: {{{listed}}}}}"
            f"   # {_about(source, found) if not known else plain('values: ' + known)}"
        )


def _survey_fields(found: DiscoveredObject) -> Iterator[str]:
    score, answered = score_field(found), answered_field(found)
    if score is not None:
        yield f"score: {score.name}   # {_about(score, found)}"
    if answered is not None:
        yield f"submitted_at: {answered.name}   # {_about(answered, found)}"
    for one in found.fields:
        plain_name = one.name.removesuffix("__c").lower()
        if one.is_custom and one.type == "reference" and plain_name in {"account", "contact"}:
            yield f"{plain_name}: {one.name}   # {_about(one, found)}"
        elif one.is_custom and plain_name == "kind" and one.type in _NATIVE_KINDS["text"]:
            yield f"kind: {{from: {one.name}, values: {{nps: [NPS], csat: [CSAT], ces: [CES]}}}}"


# ---------------------------------------------------------------- identity, KPIs, write-backs

_COPIES: Final[Mapping[str, str]] = {
    "accounts": "salesforceaccountid",
    "contacts": "salesforcecontactid",
    "deals": "hs_salesforceopportunityid",
}
"""Properties in which HubSpot's native integration keeps Salesforce's ids."""
_MATCHED_BY: Final[Mapping[str, str]] = {
    "accounts": "{domain: website}",
    "contacts": "{email: email}",
}


def _identity(draft: Draft) -> list[str]:
    if len(draft.looks) < 2:  # noqa: PLR2004 - one CRM has nobody twice
        return []
    first = draft.accesses[0].kind.type
    lines = ["identity:   # one customer, however many CRMs know it (docs/identity.md)"]
    for stream, copy in _COPIES.items():
        if not all(one.stream(stream) for one in draft.looks.values()):
            continue
        rules = []
        if _holds(draft.looks["hubspot"].object_of(stream), copy):
            rules.append(f"{{same: hubspot.{copy} = salesforce.Id}}")
        if stream in _MATCHED_BY:
            rules.append(_MATCHED_BY[stream])
        if rules:
            lines.append(f"  {stream}: {{match: [{', '.join(rules)}], prefer: {first}}}")
    lines.append("  owners: {match: [{email: email}]}")
    return lines


def _holds(found: DiscoveredObject | None, name: str) -> bool:
    return found is not None and any(one.name == name and one.filled for one in found.fields)


def _kpis(draft: Draft) -> list[str]:
    packs = packs_of(draft)
    lines = ["kpis:"]
    for pack in packs:
        sources = "; ".join(
            f"{stream} of {' and '.join(names)}"
            for stream, names in _feeding(draft, _PACKS[pack]).items()
        )
        lines.append(f"  # {pack}: {sources}")
    lines.append(f"  use: [{', '.join(packs)}]")
    if draft.skip:
        lines.append(f"  # Nothing feeds these: nobody reads {', '.join(draft.skipped_for)}.")
        lines.append(f"  skip: [{', '.join(draft.skip)}]")
    lines.append("  periods: [month, quarter, year]")
    groups = [name for name in _GROUPS if _is_mapped(draft, name)]
    if groups and "sales" in packs:
        lines += [
            "  settings:",
            f"    win_rate: {{by: [owner, pipeline, product, source, {', '.join(groups)}]}}",
        ]
    return lines


def _is_mapped(draft: Draft, name: str) -> bool:
    for one in draft.looks.values():
        found = one.object_of("deals")
        lines = () if found is None else _field_lines(one.connection, "deals", found)
        if any(line.strip().startswith(f"{name}:") for line in lines):
            return True
    return False


def _writebacks(draft: Draft) -> list[str]:
    lines: list[str] = []
    for access in draft.accesses:
        lines += _writeback(draft, access.kind)
    active = any(not line.lstrip().startswith("#") for line in lines)
    if not active:
        return ["# writebacks:   # KPI values on the records people look at", *lines]
    return ["writebacks:", *lines]


def _writeback(draft: Draft, kind: CrmKind) -> Iterator[str]:
    look = draft.looks[kind.type]
    accounts = look.stream("accounts")
    written = [kpi for kpi in _WRITTEN if kpi not in draft.skip]
    most = _most_records(accounts)
    if look.write_obstacle is None and accounts is None:
        obstacle: str | None = f"{kind.label} shows no accounts."
    elif look.write_obstacle is None and "sales" not in packs_of(draft):
        obstacle = "There are no deals to compute them from."
    else:
        obstacle = look.write_obstacle
    body = [
        f"  {kind.writeback}:",
        f"    # 1. kpisync setup {kind.writeback}: creates the fields (asks first)",
        f"    # 2. kpisync plan {kind.writeback}: old -> new per record; nothing is written",
        f"    # 3. kpisync apply {kind.writeback}: writes after your yes; from then on by itself",
        f"    to: {kind.type}.{kind.written_object}",
        "    every: 1d",
        "    fields:",
        *(f"      {kind.field_name(kpi)}: {kpi}" for kpi in written),
        f"    stamp: {kind.stamp}",
        "    approve: first_time",
        f"    guard: {{max_records: {most}, max_changed: 25%, never_blank: true}}",
    ]
    if obstacle is None:
        yield from body
        return
    yield f"  # Not active: {plain(obstacle, longest=_SENTENCE)}"
    yield from (f"  # {line[2:]}" for line in body)


def _most_records(accounts: StreamLook | None) -> int:
    """Room for every account there is, and some to come: the first push writes them all."""
    count = accounts.count if accounts is not None and accounts.count is not None else 0
    return max(2000, -(-count * 6 // 5 // 1000) * 1000)


def _alerts() -> list[str]:
    return [
        "# alerts:   # who is told when something breaks (docs/alerts.md)",
        '#   channels: {ops: "${OPS_URL}"}   # a mail, chat or hook address',
    ]


def _security(draft: Draft) -> list[str]:
    hosts = sorted({one.host for one in draft.accesses if one.host})
    return ["security:", f"  allow_hosts: [{', '.join(map(quoted, hosts))}]"] if hosts else []


# ---------------------------------------------------------------- words


def plain(text: str, longest: int = _REMARK) -> str:
    """Text as it may stand in a comment: one line, nothing that ends it."""
    line = " ".join(printable(text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def quoted(text: str) -> str:
    """Text as a YAML scalar that means just itself."""
    return json.dumps(plain(text, longest=_SENTENCE), ensure_ascii=False).replace("$", "$$")

"""Marketing campaigns: what they cost, and what HubSpot credits them with where it is asked to.

Campaigns have no modified filter, so they are read whole, every time. HubSpot tells which contacts
a campaign touched but not when: there are no campaign members.
https://developers.hubspot.com/docs/api-reference/marketing-campaigns-public-api-v3/guide
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import quote

import orjson

from connectors.base import ConnectionSettings, Cursor, Page, Stream
from connectors.errors import PermissionMissing, RequestRefused
from connectors.fieldmap import FieldMap, NativeField
from connectors.hubspot.client import HubSpotClient, Json
from connectors.hubspot.cursor import to_ms
from connectors.hubspot.mapping import Mapped, RecordMapper, map_of_marketing
from connectors.hubspot.minimum import Minimum
from connectors.hubspot.paths import CAMPAIGNS
from connectors.hubspot.walk import Circle
from store.canonical import RecordRef

PAGE: Final = 100

_TYPES: Final[Mapping[str, str]] = {
    "hs_start_date": "date",
    "hs_end_date": "date",
    "hs_budget_items_sum_amount": "number",
    "hs_spend_items_sum_amount": "number",
}
"""Campaigns describe their properties nowhere; all others are read as text."""

REPORTS: Final[Mapping[str, str]] = {
    "revenue": "reports/revenue",
    "metrics": "reports/metrics",
    "budget": "budget/totals",
}
"""What stands before the dot of a field that is read from a report -> the report's address."""


@dataclass(frozen=True, slots=True)
class CampaignPull:
    """One pull of all campaigns."""

    client: HubSpotClient
    settings: ConnectionSettings
    stream: Stream
    minimum: Minimum
    home_currency: str | None
    warnings: Sequence[str] = ()

    def pages(self, since: Cursor | datetime | None) -> Iterator[Page]:
        """Every campaign; those of the last pull that are no more are reported as deleted."""
        fieldmap = self._fieldmap()
        lost: dict[str, str] = {}
        known: dict[str, None] = {}
        circle = Circle(self.client.connection, "campaigns")
        after: str | None = None
        began: datetime | None = None
        warnings: Sequence[str] = (*self.warnings, *fieldmap.warnings)
        while True:
            answer = self.client.resource(
                CAMPAIGNS, self._query(fieldmap, after), is_sound=circle.is_new
            )
            self.minimum.add("campaigns", len(answer.results), PAGE)
            began = began or answer.at
            known.update((str(row["id"]), None) for row in answer.results)
            mapped = self._mapped(fieldmap, answer.results, lost)
            page = Page(
                records=mapped.records,
                rejected=mapped.rejected,
                resume_at=None,
                warnings=[*warnings, *mapped.warnings],
                unreadable=fieldmap.unreadable | _fields_of(fieldmap, lost),
            )
            after = answer.after
            circle.enter(after)
            if after is None:
                break
            yield page
            warnings = ()
        yield _last(page, self._gone(since, known), _cursor(began, known), began, lost)

    # ------------------------------------------------------------ one page

    def _fieldmap(self) -> FieldMap:
        return map_of_marketing(self.settings, self.stream, _native_field)

    @staticmethod
    def _query(fieldmap: FieldMap, after: str | None) -> Sequence[tuple[str, str]]:
        # What is not asked for is not sent.
        properties = ",".join(one for one in fieldmap.sources if "." not in one)
        paging = [("after", after)] if after else []
        # In the order of their creation pages do not shift while names are edited.
        return [
            ("limit", str(PAGE)),
            ("sort", "createdAt"),
            ("properties", properties),
            *paging,
        ]

    def _mapped(self, fieldmap: FieldMap, rows: Sequence[Json], lost: dict[str, str]) -> Mapped:
        mapped = Mapped()
        mapper = RecordMapper(
            self.client.connection, self.stream.name, fieldmap, self.home_currency
        )
        wanted = sorted({one.split(".")[0] for one in fieldmap.sources if "." in one})
        for row in rows:
            native = {
                **mapper.native(row, {}),
                "created_at": row.get("createdAt"),
                "modified_at": row.get("updatedAt"),
                **self._reports(str(row["id"]), wanted, lost),
            }
            record = mapper.record(row, native, mapped)
            if record is not None:
                mapped.records.append(record)
        return mapped

    def _reports(
        self, campaign: str, wanted: Sequence[str], lost: dict[str, str]
    ) -> Mapping[str, Json]:
        found: dict[str, Json] = {}
        for name in wanted:
            if name in lost:
                continue
            try:
                found[name] = self._report(campaign, REPORTS[name])
            except (PermissionMissing, RequestRefused) as error:
                lost[name] = error.message
        return found

    def _report(self, campaign: str, report: str) -> Json:
        self.minimum.add_whole()
        return self.client.resource(_path(campaign, report), is_complete=bool).content

    def _gone(
        self, since: Cursor | datetime | None, known: Mapping[str, None]
    ) -> Sequence[RecordRef]:
        before = orjson.loads(since).get("known", ()) if isinstance(since, str) else ()
        return [
            RecordRef(self.client.connection, self.stream.name, str(one))
            for one in before
            if one not in known
        ]


def _path(campaign: str, report: str) -> str:
    return f"{CAMPAIGNS}/{quote(campaign, safe='')}/{report}"


def _last(
    page: Page,
    gone: Sequence[RecordRef],
    cursor: Cursor,
    began: datetime | None,
    lost: Mapping[str, str],
) -> Page:
    words = [
        f"Campaign reports ({REPORTS[name]}) cannot be read, so what is stored of them stays as it"
        f" is: {why}"
        for name, why in lost.items()
    ]
    return Page(
        records=page.records,
        deleted=gone,
        rejected=page.rejected,
        resume_at=cursor,
        complete_until=began,
        warnings=[*page.warnings, *words],
        unreadable=page.unreadable,
    )


def _cursor(began: datetime | None, known: Mapping[str, None]) -> Cursor:
    content = {"v": 2, "until": to_ms(began) if began else 0, "known": list(known)}
    return Cursor(orjson.dumps(content).decode())


def _fields_of(fieldmap: FieldMap, lost: Mapping[str, str]) -> frozenset[str]:
    """The fields that are read from reports which cannot be read."""
    return frozenset(
        name for name in fieldmap.mapped if (fieldmap.source_of(name) or "").split(".")[0] in lost
    )


def _native_field(name: str) -> NativeField | None:
    if "." in name:
        is_known = name.split(".", maxsplit=1)[0] in REPORTS
        return NativeField(name, "number") if is_known else None
    return NativeField(name, _TYPES.get(name, "datetime" if name in _STAMPS else "text"))


_STAMPS: Final = frozenset({"createdate", "hs_lastmodifieddate"})

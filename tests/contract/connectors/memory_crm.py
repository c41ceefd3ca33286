"""A CRM in memory and a connector to it that keeps every optional promise, or breaks one."""

from __future__ import annotations

import hmac
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from connectors.base import (
    CallCounter,
    Capabilities,
    CheckReport,
    ConnectionSettings,
    Cursor,
    DiscoveredField,
    DiscoveredObject,
    IdPage,
    Page,
    PushResult,
    Stream,
    StreamSettings,
    Tuning,
    WebRequest,
)
from connectors.contract.org import COMPANY, QUICK, Ability, Org
from connectors.errors import MisconfiguredConnection, RequestRefused
from store.canonical import Account, Deal, FieldUpdate, RecordRef, Stage

SECRET: Final = "secret-of-the-app"
PAGE: Final = 100
FIELDS: Final = {"accounts": ["id", "name"], "deals": ["id", "stage"]}


@dataclass
class Row:
    """A record."""

    created_at: datetime
    values: dict[str, str]
    is_deleted: bool = False


class MemoryOrg(Org):
    """What people do there."""

    name = "memory"
    account_object = "accounts"
    lacks: Mapping[Ability, str] = {}
    defect = ""
    """Of the connectors to it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.rows: dict[str, dict[str, Row]] = {"accounts": {}, "deals": {}}
        self.fields = {name: list(fields) for name, fields in FIELDS.items()}
        self._numbers = itertools.count(1001)
        ORGS[self.name] = self

    def settings(
        self,
        *,
        tuning: Tuning = QUICK,
        streams: Mapping[str, StreamSettings] | None = None,
        auth: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> ConnectionSettings:
        return ConnectionSettings(
            name=self.name,
            type="memory",
            auth=auth or {},
            company=COMPANY,
            streams=streams or {},
            base_url=base_url,
            tuning=tuning,
        )

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def add_accounts(self, names: Sequence[str]) -> list[str]:
        return [self._add("accounts", name=name) for name in names]

    def rename_account(self, account_id: str, name: str) -> None:
        self.rows["accounts"][account_id].values["name"] = name

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal = {"stage": "open", "amount": str(amount), "account": account or ""}
        return [self._add("deals", **deal) for _ in range(count)]

    def win(self, deal_id: str) -> None:
        self.rows["deals"][deal_id].values["stage"] = "won"

    def delete_account(self, account_id: str) -> None:
        self.rows["accounts"][account_id].is_deleted = True

    def erase_account(self, account_id: str) -> None:
        del self.rows["accounts"][account_id]

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self.fields["deals"].append(name)
        for deal_id, text in texts.items():
            self.rows["deals"][deal_id].values[name] = text

    def notification(self) -> tuple[ConnectionSettings, WebRequest]:
        request = WebRequest(
            method="POST",
            url="https://kpis.example.com/hook",
            headers={"sent-at": str(int(time.time()))},
            body=b"accounts",
        )
        signed = replace(
            request, headers={**request.headers, "signature": self.signature(SECRET, request)}
        )
        return self.settings(auth={"webhook_secret": SECRET}), signed

    def signature(self, secret: str, request: WebRequest) -> str:
        """How this CRM signs."""
        address = "" if self.defect == "the address is not signed" else request.url
        sent_at = request.headers.get("sent-at", "")
        signed = f"{request.method} {address} {sent_at} ".encode() + request.body
        return hmac.new(secret.encode(), signed, "sha256").hexdigest()

    def _add(self, stream: str, **values: str) -> str:
        native_id = f"{stream[0]}{next(self._numbers)}"
        self.rows[stream][native_id] = Row(self.now, {"id": native_id, **values})
        return native_id


ORGS: Final[dict[str, MemoryOrg]] = {}
"""By the names of connections."""


@dataclass
class MemoryConnector:
    """Keeps what `connectors.base` promises, but for one defect."""

    settings: ConnectionSettings
    org: MemoryOrg
    calls: CallCounter = field(default_factory=CallCounter)

    capabilities = Capabilities(
        push_batch=1,
        sees_deletions=False,
        stream_objects={"accounts": "accounts", "deals": "deals"},
        object_streams={},
    )

    def check(self) -> CheckReport:
        return CheckReport(org_id="memory")

    def streams(self) -> Sequence[Stream]:
        return [Stream(name, name, (name,)) for name in ("accounts", "deals")]

    def pull(self, stream: Stream, since: Cursor | datetime | None) -> Iterator[Page]:
        del since
        live = [self._record(stream.name, one) for one in self._live(stream.name)]
        yield Page(records=live, resume_at=None, complete_until=self.org.now)

    def push(self, updates: Sequence[FieldUpdate]) -> Sequence[PushResult]:
        del updates
        return []

    def close(self) -> None:
        """Nothing is kept open."""

    # ---- ids

    def ids(self, stream: Stream) -> Iterator[IdPage] | None:
        return self._ids(stream.name)

    def _ids(self, stream: str) -> Iterator[IdPage]:
        listed = self._live(stream)
        if self._has("deleted records are listed"):
            listed = list(self.org.rows[stream])
        connection = "other" if self._has("ids are of another connection") else self.org.name
        refs = [RecordRef(connection, stream, one) for one in listed]
        if self._has("pages overlap"):
            refs.insert(PAGE, refs[PAGE - 1])
        if self._has("the last page is missed"):
            refs = refs[: len(refs) // PAGE * PAGE]
        explained = refs[:1] if self._has("live records are explained as gone") else []
        total = PAGE if self._has("the total is that of a page") else len(refs)
        for start in range(0, len(refs), PAGE):
            yield IdPage(refs=refs[start : start + PAGE], explained=explained, total=total)

    def fetch(self, stream: Stream, refs: Sequence[RecordRef]) -> Page:
        wanted = [ref.native_id for ref in refs]
        found = [one for one in self._live(stream.name) if one in wanted]
        if self._has("all records are fetched"):
            found = self._live(stream.name)
        records = [self._record(stream.name, one) for one in found]
        if self._has("names are not fetched"):
            records = [replace(one, name=None) for one in records]
        if self._has("what is gone is fetched empty"):
            records += [Account(ref=ref) for ref in refs if ref.native_id not in found]
        return Page(records=records, resume_at=None)

    # ---- counts

    def count(self, stream: Stream, until: datetime) -> int | None:
        rows = self.org.rows[stream.name].values()
        return sum(
            (self._has("deleted records are counted") or not row.is_deleted)
            and (self._has("later records are counted") or row.created_at <= until)
            for row in rows
        )

    # ---- discovery

    def objects(self) -> Sequence[DiscoveredObject]:
        shown = [self._shown(name) for name in self.org.rows]
        if not self._has("objects are listed with their fields"):
            shown = [
                DiscoveredObject(name=one.name, label=one.name, stream=one.name) for one in shown
            ]
        return shown[1:] if self._has("accounts are not listed") else shown

    def discover(self, object_name: str) -> DiscoveredObject:
        if object_name not in self.org.rows:
            if self._has("every object is there"):
                return DiscoveredObject(name=object_name, label=object_name)
            name = "it" if self._has("what is not there has no name") else object_name
            raise MisconfiguredConnection(self.org.name, f"there is no object {name}")
        return self._shown(object_name)

    def _shown(self, name: str) -> DiscoveredObject:
        rows = [self.org.rows[name][one].values for one in self._live(name)]
        fields = FIELDS[name] if self._has("own fields are not shown") else self.org.fields[name]
        stages = [
            Stage(ref=RecordRef(self.org.name, "stages", "open")),
            Stage(ref=RecordRef(self.org.name, "stages", "won"), is_closed=True, is_won=True),
        ]
        return DiscoveredObject(
            name=name,
            label=name,
            stream=name,
            sampled=len(rows),
            fields=[self._field(one, rows) for one in fields],
            stages=[] if self._has("stages are not shown") else stages,
        )

    def _field(self, name: str, rows: Sequence[Mapping[str, str]]) -> DiscoveredField:
        values = [row[name] for row in rows if name in row]
        filled = len(rows) + 1 if self._has("more is filled than was looked at") else len(values)
        if self._has("whatever is there counts as filled"):
            filled = len(rows)
        if self._has("nothing counts as filled"):
            filled = 0
        sample = values[0] if values else None
        if sample is not None and not self._has("samples are shown in the clear"):
            sample = f"{sample[0]}..."
        return DiscoveredField(name=name, label=name, type="text", filled=filled, sample=sample)

    # ---- the doorbell

    def rung(self, request: WebRequest, now: datetime) -> frozenset[str]:
        secret = self.settings.auth.get("webhook_secret", "")
        is_open = not secret and self._has("without a secret everybody is believed")
        if not is_open and not self._has("everybody is believed"):
            self._check(request, now, secret)
        if self._has("strange streams are named"):
            return frozenset({"accounts", "nonsense"})
        return frozenset({"deals" if self._has("other streams are named") else "accounts"})

    def _check(self, request: WebRequest, now: datetime, secret: str) -> None:
        signature = request.headers.get("signature")
        is_signed = signature == self.org.signature(secret, request)
        if self._has("any signature will do"):
            is_signed = signature is not None
        if not is_signed or not (secret or self._has("without a secret everybody is believed")):
            raise RequestRefused(self.org.name, "not signed for us")
        age = now.timestamp() - float(request.headers["sent-at"])
        if age > 300 and not self._has("age does not matter"):
            raise RequestRefused(self.org.name, "too old")

    # ---- rows

    def _has(self, defect: str) -> bool:
        return self.org.defect == defect

    def _live(self, stream: str) -> list[str]:
        return [key for key, row in self.org.rows[stream].items() if not row.is_deleted]

    def _record(self, stream: str, native_id: str) -> Account | Deal:
        row = self.org.rows[stream][native_id]
        ref = RecordRef(self.org.name, stream, native_id)
        if stream == "accounts":
            return Account(ref=ref, created_at=row.created_at, name=row.values["name"])
        return Deal(ref=ref, created_at=row.created_at, amount=Decimal(1), stage="memory:open")


def connect(settings: ConnectionSettings) -> MemoryConnector:
    """The factory behind the entry point."""
    return MemoryConnector(settings, ORGS[settings.name])

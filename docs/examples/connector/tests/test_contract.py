"""The connector keeps what kpisync's contract suite asks of every connector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import pytest

from connectors.base import ConnectionSettings, StreamSettings, Tuning
from connectors.contract.org import COMPANY, QUICK, Ability, Calls, Fault, Org
from connectors.contract.suite import ConnectorContract
from kpisync_example.crm import TOKEN, Spoilt, TinyCrm, serving, with_stages


class TinyOrg(Org):
    """What people do in the tiny CRM."""

    name = "tiny"
    account_object = "accounts"
    lacks: Mapping[Ability, str] = {
        Ability.STAGE_HISTORY: "the tiny CRM does not remember the stages of a deal",
        Ability.TOLD_ERASURES: "what is erased leaves no trace",
        Ability.IDS: "the tiny CRM lists whole records only",
        Ability.COUNTS: "the tiny CRM counts nothing",
        Ability.DISCOVERY: "the example shows no objects to map",
        Ability.DOORBELL: "the tiny CRM tells nobody of changes",
    }

    def __init__(self, crm: TinyCrm) -> None:
        self.crm = crm

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
            type="example",
            auth={"token": TOKEN} if auth is None else auth,
            company=COMPANY,
            streams=streams or {},
            base_url=base_url or self.crm.url,
            tuning=tuning,
        )

    @property
    def wrong_credentials(self) -> Mapping[str, str]:
        return {"token": "wrong-secret"}

    def add_accounts(self, names: Sequence[str]) -> list[str]:
        return self.crm.add("accounts", [{"name": name} for name in names])

    def rename_account(self, account_id: str, name: str) -> None:
        self.crm.edit("accounts", account_id, name=name)

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal = {"name": "Deal", "account": account, "stage": "open", "amount": str(amount)}
        return self.crm.add("deals", [deal] * count)

    def win(self, deal_id: str) -> None:
        day = self.crm.now().date().isoformat()
        self.crm.edit("deals", deal_id, stage="won", close_date=day)

    # ------------------------------------------------------------ time

    def advance(self, seconds: float) -> datetime:
        self.crm.ahead += timedelta(seconds=seconds)
        return self.crm.now()

    def import_accounts(self, names: Sequence[str]) -> list[str]:
        at = self.crm.now() - timedelta(hours=1)
        return self.crm.add("accounts", [{"name": name} for name in names], at=at)

    def add_account_committed_late(self, name: str, seconds: float) -> None:
        self.crm.add("accounts", [{"name": name}], shown_in=seconds)

    # ------------------------------------------------------------ records that go

    def delete_account(self, account_id: str) -> None:
        self.crm.edit("accounts", account_id, deleted=True)

    def restore_account(self, account_id: str) -> None:
        self.crm.edit("accounts", account_id, deleted=False)

    def merge_accounts(self, winner: str, losers: Sequence[str]) -> str:
        for loser in losers:
            self.crm.edit("accounts", loser, deleted=True, merged_into=winner)
        return winner

    def erase_account(self, account_id: str) -> None:
        del self.crm.rows["accounts"][account_id]

    # ------------------------------------------------------------ fields and stages

    def to_unknown_stage(self, deal_id: str) -> str:
        self.crm.edit("deals", deal_id, stage="forgotten")
        return "forgotten"

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self.crm.fields["deals"][name] = "text"
        for deal_id, text in texts.items():
            self.crm.edit("deals", deal_id, **{name: text})

    def hide_amounts(self) -> str:
        self.crm.hidden.add("deals.amount")
        return "deals.amount"

    # ------------------------------------------------------------ bad days

    def spoil(self, fault: Fault, calls: Calls, *, times: int | None = 1) -> None:
        self.crm.spoilt.append(Spoilt(fault.value, calls.value, times))

    def mend(self) -> None:
        self.crm.spoilt.clear()

    def use_up_the_quota(self) -> None:
        self.crm.no_calls_until = self.crm.now() + timedelta(hours=1)

    def refuse_writes_of(self, record_id: str) -> None:
        self.crm.refusing.add(record_id)

    def lock(self, record_id: str) -> None:
        self.crm.locked.add(record_id)


class TestExample(ConnectorContract):
    """Everything that connectors promise."""

    @pytest.fixture
    def org(self) -> Iterator[Org]:
        with serving(with_stages(TinyCrm())) as crm:
            yield TinyOrg(crm)

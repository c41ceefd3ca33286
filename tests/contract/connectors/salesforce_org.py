"""The fake Salesforce org in the words of the suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.base import ConnectionSettings, StreamSettings, Tuning
from connectors.contract.org import COMPANY, QUICK, Ability
from tests.contract.connectors.sandbox_org import SandboxOrg
from tests.fixtures.sandboxes import Fields

CLIENT = {
    "flow": "client_credentials",
    "domain": "acme.my",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
}


class SalesforceOrg(SandboxOrg):
    """Salesforce's names for what people do."""

    name = "salesforce"
    account_object = "Account"
    kpi_field = "KPI_test__c"
    reading = "/query"
    writing = "composite/sobjects"
    lacks: Mapping[Ability, str] = {
        Ability.DOORBELL: "Salesforce tells of changes on channels that stay open, not by calls"
    }

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
            type="salesforce",
            auth=CLIENT if auth is None else auth,
            company=COMPANY,
            streams=streams or {},
            base_url=base_url or self.crm.url,
            tuning=tuning,
        )

    @property
    def wrong_credentials(self) -> Mapping[str, str]:
        return {**CLIENT, "client_secret": "wrong-secret"}

    def create_accounts(self, names: Sequence[str], **how: object) -> list[str]:
        return self.crm.create_many("Account", [{"Name": name} for name in names], **how)

    def rename_account(self, account_id: str, name: str, **how: object) -> None:
        self.crm.edit("Account", account_id, {"Name": name}, **how)

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal: Fields = {
            "Name": "Deal",
            "StageName": "Prospecting",
            "CloseDate": "2026-12-31",
            "Amount": amount,
            "AccountId": account,
        }
        return self.crm.create_many("Opportunity", [deal] * count)

    def win(self, deal_id: str) -> None:
        self.crm.edit("Opportunity", deal_id, {"StageName": "Closed Won"})

    def to_unknown_stage(self, deal_id: str) -> str:
        self.crm.edit("Opportunity", deal_id, {"StageName": "Forgotten"})
        return "Forgotten"

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self.crm.add_field("Opportunity", name, "text")
        for deal_id, text in texts.items():
            self.crm.edit("Opportunity", deal_id, {name: text})

    def hide_amounts(self) -> str:
        self.crm.settings(hide_fields=["Opportunity.Amount"])
        return "Opportunity.Amount"

    def use_up_the_quota(self) -> None:
        self.crm.settings(daily_calls_max=100, daily_calls_used=100)

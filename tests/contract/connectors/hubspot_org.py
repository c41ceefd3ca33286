"""The fake HubSpot portal in the words of the suite."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import time
from collections.abc import Mapping, Sequence

from hubspot import HubSpot

from connectors.base import ConnectionSettings, StreamSettings, Tuning, WebRequest
from connectors.contract.org import COMPANY, QUICK, Ability
from tests.contract.connectors.sandbox_org import SandboxOrg
from tests.fixtures.sandboxes import Crm, Fields

_numbers = itertools.count()

KEY = {"flow": "token", "token": "pat-na1-sandbox"}


class HubSpotOrg(SandboxOrg):
    """HubSpot's names for what people do."""

    name = "hubspot"
    account_object = "companies"
    reading = "/crm/v3/objects/"
    writing = "/batch/update"
    lacks: Mapping[Ability, str] = {
        Ability.TOLD_ERASURES: "HubSpot keeps no trace of a record that was deleted for good"
    }

    def __init__(self, crm: Crm, *, api_version: str | None = None) -> None:
        super().__init__(crm)
        self._api_version = api_version
        # A portal that outlives its test keeps its properties, and a process its limits.
        number = next(_numbers)
        self.kpi_field = f"kpi_test_{number}"
        self._limits = f"memory://hubspot-org-{number}"
        if api_version is not None:
            self.reading = f"/crm/objects/{api_version}/"
        crm.settings(time_zone=str(COMPANY.timezone), company_currency=COMPANY.currency)

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
            type="hubspot",
            auth=KEY if auth is None else auth,
            company=COMPANY,
            streams=streams or {},
            base_url=base_url or self.crm.url,
            api_version=self._api_version,
            limits_storage=self._limits,
            tuning=tuning,
        )

    @property
    def wrong_credentials(self) -> Mapping[str, str]:
        return {**KEY, "token": "wrong-secret"}

    def create_accounts(self, names: Sequence[str], **how: object) -> list[str]:
        return self.crm.create_many("companies", [{"name": name} for name in names], **how)

    def rename_account(self, account_id: str, name: str, **how: object) -> None:
        self.crm.edit("companies", account_id, {"name": name}, **how)

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal: Fields = {"dealname": "Deal", "dealstage": "appointmentscheduled", "amount": amount}
        ids = self.crm.create_many("deals", [deal] * count)
        if account is not None:
            for deal_id in ids:
                self.crm.associate("deals", deal_id, "companies", [account], primary=True)
        return ids

    def win(self, deal_id: str) -> None:
        self.crm.edit("deals", deal_id, {"dealstage": "closedwon"})

    def to_unknown_stage(self, deal_id: str) -> str:
        self.crm.edit("deals", deal_id, {"dealstage": "forgotten"})
        return "forgotten"

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self.crm.add_field("deals", name, "text")
        for deal_id, text in texts.items():
            self.crm.edit("deals", deal_id, {name: text})

    def hide_amounts(self) -> str:
        """HubSpot lists a sensitive property only to tokens with the scope for it."""
        version = self._api_version
        path = f"/crm/properties/{version}/deals" if version else "/crm/v3/properties/deals"
        client = HubSpot(access_token=KEY["token"], base_url=self.crm.url)
        listed = client.api_request({"path": path}).json()["results"]
        seen = {"results": [one for one in listed if one["name"] != "amount"]}
        self.crm.fault("status", status=200, path=path, body=seen, times="forever")
        return "deals.amount"

    def notification(self) -> tuple[ConnectionSettings, WebRequest]:
        """Signed as HubSpot documents it, version 3."""
        secret, url = "secret-of-the-app", "https://kpis.example.com/hooks/hubspot"
        sent_at = int(time.time() * 1000)
        event = {"eventId": 1, "portalId": 7654321, "subscriptionType": "company.propertyChange"}
        body = json.dumps([{**event, "objectId": 1, "occurredAt": sent_at}]).encode()
        signed = f"POST{url}".encode() + body + str(sent_at).encode()
        signature = base64.b64encode(hmac.new(secret.encode(), signed, "sha256").digest()).decode()
        headers = {
            "x-hubspot-signature-v3": signature,
            "x-hubspot-request-timestamp": str(sent_at),
        }
        settings = self.settings(auth={**KEY, "webhook_secret": secret})
        return settings, WebRequest(method="POST", url=url, headers=headers, body=body)

    def use_up_the_quota(self) -> None:
        self.crm.settings(daily=0)

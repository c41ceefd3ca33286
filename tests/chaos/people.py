"""People at work in both CRMs while everything else goes wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fixtures.sandboxes import Crm, Sandbox

STAGES = {
    "salesforce": ("Prospecting", "Negotiation/Review", "Closed Won", "Closed Lost"),
    "hubspot": ("appointmentscheduled", "contractsent", "closedwon", "closedlost"),
}
DEALS = {"salesforce": "Opportunity", "hubspot": "deals"}
ACCOUNTS = {"salesforce": "Account", "hubspot": "companies"}
FIELDS = {
    "salesforce": {"amount": "Amount", "stage": "StageName", "name": "Name", "day": "CloseDate"},
    "hubspot": {
        "amount": "amount",
        "stage": "dealstage",
        "name": "dealname",
        "day": "closedate",
    },
}

SPOILT = "abc"
"""An amount that is none."""


class People:
    """Somebody who edits, deletes, restores and merges at random, the same for the same seed."""

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - chance that can be replayed
        self._crms = {"salesforce": sandbox.salesforce, "hubspot": sandbox.hubspot}
        self._made = 0
        self.restored: set[str] = set()
        """Refs of records that came back from the bin, which some CRMs do not date."""

    def work(self, acts: int) -> None:
        """Do so many things."""
        for _ in range(acts):
            name = self._random.choice(tuple(self._crms))
            act = self._random.choices(_ACTS, weights=_WEIGHTS)[0]
            act(self, name, self._crms[name])

    # ------------------------------------------------------------ acts

    def close_or_reopen(self, name: str, crm: Crm) -> None:
        """A deal moves to another stage."""
        if deal := self._one(crm, DEALS[name]):
            stage = self._random.choice(STAGES[name])
            crm.edit(DEALS[name], deal, {FIELDS[name]["stage"]: stage})

    def reprice(self, name: str, crm: Crm) -> None:
        """A deal gets another amount, or none."""
        if deal := self._one(crm, DEALS[name]):
            amount = self._random.choice([None, self._random.randrange(1, 90_000)])
            text = amount if name == "salesforce" or amount is None else str(amount)
            crm.edit(DEALS[name], deal, {FIELDS[name]["amount"]: text})

    def spoil(self, name: str, crm: Crm) -> None:
        """Some import writes what is no amount (only HubSpot takes it)."""
        if name == "hubspot" and (deal := self._one(crm, DEALS[name])):
            crm.edit(DEALS[name], deal, {FIELDS[name]["amount"]: SPOILT})

    def sell(self, name: str, crm: Crm) -> None:
        """A new deal for an account."""
        self._made += 1
        account = self._one(crm, ACCOUNTS[name])
        fields: dict[str, str | int | None] = {
            FIELDS[name]["name"]: f"Deal of chaos {self._made:04d}",
            FIELDS[name]["stage"]: self._random.choice(STAGES[name]),
            FIELDS[name]["day"]: "2026-05-05" + ("T12:00:00Z" if name == "hubspot" else ""),
        }
        amount = self._random.randrange(1, 9_000)
        fields[FIELDS[name]["amount"]] = amount if name == "salesforce" else str(amount)
        if name == "salesforce":
            crm.create("Opportunity", fields | {"AccountId": account})
        else:
            links = {"companies": [account]} if account else {}
            crm.create("deals", fields | {"pipeline": "default"}, associations=links)

    def found(self, name: str, crm: Crm) -> None:
        """A new account."""
        self._made += 1
        label = "Name" if name == "salesforce" else "name"
        crm.create(ACCOUNTS[name], {label: f"Account of chaos {self._made:04d}"})

    def drop(self, name: str, crm: Crm) -> None:
        """A deal goes into the bin."""
        if deal := self._one(crm, DEALS[name]):
            crm.delete(DEALS[name], deal)

    def restore(self, name: str, crm: Crm) -> None:
        """A deal comes back from the bin."""
        gone = [one for one in crm.snapshot()[DEALS[name]] if one["deleted"]]
        restorable = [str(one["id"]) for one in gone if not one["merged_into"]]
        if restorable:
            chosen = self._random.choice(restorable)
            crm.undelete(DEALS[name], chosen)
            self.restored.add(f"{name}:{chosen}")

    def merge(self, name: str, crm: Crm) -> None:
        """Two accounts become one."""
        alive = self._alive(crm, ACCOUNTS[name])
        if len(alive) > 5:
            winner, loser = self._random.sample(alive, 2)
            crm.merge(ACCOUNTS[name], winner, [loser])

    # ------------------------------------------------------------ whom it meets

    def _one(self, crm: Crm, object_name: str) -> str | None:
        alive = self._alive(crm, object_name)
        return self._random.choice(alive) if alive else None

    @staticmethod
    def _alive(crm: Crm, object_name: str) -> list[str]:
        found = crm.snapshot().get(object_name, [])
        return [str(one["id"]) for one in found if not one["deleted"] and not one["merged_into"]]


_ACTS: tuple[Callable[[People, str, Crm], None], ...] = (
    People.close_or_reopen,
    People.reprice,
    People.sell,
    People.found,
    People.drop,
    People.restore,
    People.merge,
    People.spoil,
)
_WEIGHTS = (30, 20, 20, 6, 10, 8, 6, 4)

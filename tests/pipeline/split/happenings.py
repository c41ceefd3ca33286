"""What happens in the two CRMs of a divided company, by chance but repeatably."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from tests.fixtures.sandboxes import Fields, Sandbox
from tests.pipeline.split.crms import FIRST, SECOND, STAGES, Link, Seen
from tests.pipeline.split.union import Union
from tests.pipeline.split.worlds import NOON, Clock, Reader
from worker.identities import Undecidable, decide

OPEN: Final = tuple(STAGES)[:4]
CLOSED: Final = tuple(STAGES)[4:]
LATER: Final = (timedelta(seconds=90), timedelta(seconds=90), timedelta(hours=1), timedelta(days=1))
OBJECT: Final = {
    ("accounts", FIRST): "Account",
    ("accounts", SECOND): "companies",
    ("contacts", FIRST): "Contact",
    ("contacts", SECOND): "contacts",
    ("deals", FIRST): "Opportunity",
    ("deals", SECOND): "deals",
    ("tickets", FIRST): "Case",
    ("tickets", SECOND): "tickets",
}
FEWEST: Final = 4
"""Accounts and people that are left in each CRM, whatever is merged and deleted."""


class Happenings:
    """One random thing after the other; `needs_full` tells that one of them moved no stamp."""

    def __init__(self, sandbox: Sandbox, union: Union, reader: Reader, clock: Clock, seed: int):
        self._crms = {FIRST: sandbox.salesforce, SECOND: sandbox.hubspot}
        self._union, self._reader, self._clock = union, reader, clock
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._days = iter(range(1, 10_000))
        self._deleted: set[str] = set()
        self._to_come: list[Callable[[], None]] = []
        self.needs_full = False

    def happen(self) -> str:
        """Do one thing, each kind of them once before any comes again; its name."""
        if not self._to_come:
            self._to_come = self._chance.sample(self.everything, len(self.everything))
        self._clock.advance(self._chance.choice(LATER))
        self._to_come[-1]()
        self._union.look()
        return self._to_come.pop().__name__.strip("_")

    @property
    def everything(self) -> Sequence[Callable[[], None]]:
        """What can happen; what stands here twice happens more often."""
        return (
            self._edit_deal,
            self._edit_deal,
            self._edit_copied_deal,
            self._move_deal_on,
            self._move_deal_on,
            self._move_deal_on,
            self._add_deal,
            self._give_deal_away,
            self._change_owner,
            self._delete_or_restore_deal,
            self._move_site,
            self._edit_account,
            self._merge_accounts_while_the_other_changes,
            self._unlink_account,
            self._link_account,
            self._unlink_or_link_deal,
            self._delete_or_restore_account,
            self._change_address,
            self._move_person,
            self._merge_people,
            self._decide,
            self._forget,
            self._serve,
            self._answer,
            self._go_on_with_lead,
            self._refresh,
        )

    def spread_close_days(self) -> None:
        """Let no two deals close on one day: which purchase was first is then no matter of ids."""
        self._clock.advance()
        for deal in self._alive("deals"):
            if deal.steps[-1][1].startswith("Closed"):
                self._close(deal, None)
        self._union.look()

    # ------------------------------------------------------------ choosing

    def _alive(self, stream: str, crm: str | None = None) -> list[Seen]:
        return [
            it
            for (name, _), it in sorted(self._union.company.items())
            if name == stream and it.is_alive and crm in (None, it.crm)
        ]

    def _any(self, stream: str, crm: str | None = None) -> Seen:
        return self._chance.choice(self._alive(stream, crm))

    def _other(self, crm: str) -> str:
        return SECOND if crm == FIRST else FIRST

    def _either(self) -> str:
        return self._chance.choice((FIRST, SECOND))

    def _text(self, letter: str) -> str | None:
        return self._chance.choice((None, f"{letter}1", f"{letter}2"))

    def _amount(self) -> int | None:
        amounts: tuple[int | None, ...] = (None, *range(100, 9_000, 800))
        return self._chance.choice(amounts)

    def _edit(self, record: Seen, first: dict[str, object], second: dict[str, object]) -> None:
        crm = self._crms[record.crm]
        fields = first if record.crm == FIRST else second
        name = OBJECT[record.stream, record.crm]
        crm.admin("edit", object=name, id=_id(record), fields=fields)

    def _associate(self, record: Seen, stream: str, new: Seen, old: Link | None) -> None:
        hub = self._crms[SECOND]
        name, to = OBJECT[record.stream, SECOND], OBJECT[stream, SECOND]
        if old is not None:
            hub.associate(name, _id(record), to, [old.key.partition(":")[2]], remove=True)
        hub.associate(name, _id(record), to, [_id(new)], primary=stream == "accounts")

    # ------------------------------------------------------------ deals

    def _edit_deal(self) -> None:
        deal = self._any("deals")
        self._put_values(deal, self._amount())

    def _put_values(self, deal: Seen, amount: int | None) -> None:
        product, region, segment = self._text("P"), self._text("R"), self._text("S")
        self._edit(
            deal,
            {"Amount": amount, "Product__c": product, "Region__c": region, "Segment__c": segment},
            {"amount": _text(amount), "product": product, "region": region, "segment": segment},
        )

    def _edit_copied_deal(self) -> None:
        """The integration brings an amount into both."""
        copies = [it for it in self._alive("deals", SECOND) if "twin" in it.proofs]
        if copies:
            copy, amount = self._chance.choice(copies), self._amount()
            self._put_values(copy, amount)
            original = self._union.company.get(("deals", copy.proofs["twin"]))
            if original is not None and original.is_alive:
                self._put_values(original, amount)

    def _move_deal_on(self) -> None:
        deal = self._any("deals")
        self._enter(deal, self._chance.choice((*OPEN, *CLOSED, CLOSED[0], CLOSED[0])))

    def _enter(self, deal: Seen, stage: str) -> None:
        if stage in CLOSED:
            self._close(deal, stage)
        else:
            self._edit(deal, {"StageName": STAGES[stage]}, {"dealstage": stage})

    def _close(self, deal: Seen, stage: str | None) -> None:
        day = NOON - timedelta(days=next(self._days) * 7 % 701 + 1)
        reason = self._text("L") if stage == "closedlost" else None
        first: dict[str, object] = {"CloseDate": day.date().isoformat()}
        second: dict[str, object] = {"closedate": day.isoformat()}
        if stage is not None:
            first |= {"StageName": STAGES[stage], "Lost_Reason__c": reason}
            second |= {"dealstage": stage, "closed_lost_reason": reason}
        self._edit(deal, first, second)

    def _add_deal(self) -> None:
        crm = self._either()
        account, person, owner = (
            self._any("accounts", crm),
            self._any("contacts", crm),
            self._owner(crm),
        )
        name = f"New deal {self._chance.randrange(10**9)}"
        if crm == FIRST:
            fields = {"Name": name, "AccountId": _id(account), "StageName": "Prospecting"}
            fields |= {"CloseDate": "2026-12-24", "OwnerId": owner, "LeadSource": "Web"}
            deal = self._crms[FIRST].create("Opportunity", fields)
            role = {"OpportunityId": deal, "ContactId": _id(person), "Role": "Decision Maker"}
            self._crms[FIRST].create("OpportunityContactRole", role)
        else:
            fields = {"dealname": name, "pipeline": "default", "dealstage": "prospecting"}
            fields |= {"hubspot_owner_id": owner, "closedate": "2026-12-24T12:00:00Z"}
            linked = {"companies": [_id(account)], "contacts": [_id(person)]}
            self._crms[SECOND].create("deals", fields, associations=linked)

    def _give_deal_away(self) -> None:
        """To another customer; a link of HubSpot alone moves no stamp, so something else does."""
        deal = self._any("deals")
        account = self._any("accounts", deal.crm)
        if deal.crm == SECOND:
            self._associate(deal, "accounts", account, _link(deal, "AccountId"))
        self._edit(deal, {"AccountId": _id(account)}, {"product": self._text("P")})

    def _owner(self, crm: str) -> str:
        known = [
            it for it in self._alive("owners", crm) if str(it.fields["Email"]).startswith("rep")
        ]
        return _id(self._chance.choice(known))

    def _change_owner(self) -> None:
        record = self._any(self._chance.choice(("deals", "tickets", "accounts")))
        owner = self._owner(record.crm)
        self._edit(record, {"OwnerId": owner}, {"hubspot_owner_id": owner})

    def _delete_or_restore_deal(self) -> None:
        gone = [
            it
            for (stream, _), it in sorted(self._union.company.items())
            if stream == "deals" and it.is_gone and it.key in self._deleted
        ]
        deal = (
            self._chance.choice(gone)
            if gone and self._chance.random() < 0.5
            else self._any("deals")
        )
        verb = "undelete" if deal.is_gone else "delete"
        self._crms[deal.crm].admin(verb, object=OBJECT["deals", deal.crm], id=_id(deal))
        self._deleted ^= {deal.key}

    def _unlink_or_link_deal(self) -> None:
        copy = self._any("deals", SECOND)
        taken = {it.proofs.get("twin") for it in self._alive("deals", SECOND)}
        free = [it for it in self._alive("deals", FIRST) if it.key not in taken]
        twin = None if "twin" in copy.proofs else _id(self._chance.choice(free))
        self._edit(copy, {}, {"hs_salesforceopportunityid": twin})

    # ------------------------------------------------------------ customers

    def _move_site(self) -> None:
        account = self._any("accounts")
        site = self._some_site()
        self._edit(account, {"Website": f"https://www.{site}"}, {"domain": site})

    def _some_site(self) -> str:
        number = self._chance.randrange(1, len(self._alive("accounts")) + 2)
        return f"account-{number:04}.example"

    def _edit_account(self) -> None:
        account = self._any("accounts")
        region, segment = self._text("R"), self._text("S")
        self._edit(
            account,
            {"Region__c": region, "Segment__c": segment},
            {"region": region, "segment": segment},
        )

    def _merge_accounts_while_the_other_changes(self) -> None:
        crm = self._either()
        known = self._alive("accounts", crm)
        if len(known) < FEWEST:
            return
        winner, loser = self._chance.sample(known, 2)
        self._crms[crm].merge(OBJECT["accounts", crm], _id(winner), [_id(loser)])
        other = self._other(crm)
        if others := self._alive("accounts", other):
            site = self._some_site()
            self._edit(self._chance.choice(others), {"Website": site}, {"domain": site})
        self._put_values(self._any("deals", other), self._amount())

    def _unlink_account(self) -> None:
        account = self._any("accounts", SECOND)
        self._edit(account, {}, {"salesforceaccountid": None, "domain": None})

    def _link_account(self) -> None:
        everybody = [
            it
            for (s, _), it in sorted(self._union.company.items())
            if s == "accounts" and it.crm == FIRST
        ]
        account = self._any("accounts", SECOND)
        twin = _id(self._chance.choice(everybody))
        # Of 15 characters or 18, as integrations write them.
        self._edit(
            account, {}, {"salesforceaccountid": twin[:15] if len(self._deleted) % 2 else twin}
        )

    def _delete_or_restore_account(self) -> None:
        known = self._alive("accounts")
        gone = [
            it
            for (stream, _), it in sorted(self._union.company.items())
            if stream == "accounts" and it.is_gone and it.merged_into is None
        ]
        if gone:
            account = self._chance.choice(gone)
            self._crms[account.crm].undelete(OBJECT["accounts", account.crm], _id(account))
            # What comes back with it, or is linked to it again, moves no stamp.
            self.needs_full = True
        elif len(known) > 2 * FEWEST:
            account = self._chance.choice(known)
            self._crms[account.crm].delete(OBJECT["accounts", account.crm], _id(account))
            self.needs_full = True

    def _decide(self) -> None:
        one, other = self._any("accounts", FIRST), self._any("accounts", SECOND)
        is_same = self._chance.random() < 0.4
        self._said(one.key, other.key, is_same=is_same)

    def _said(self, one: str, other: str, *, is_same: bool) -> None:
        self._pull()
        pair = frozenset((one, other))
        try:
            decide(self._reader.runtime, one, other, is_same=is_same, stream="accounts")
        except Undecidable:
            return
        self._union.together.discard(pair)
        self._union.apart.discard(pair)
        (self._union.together if is_same else self._union.apart).add(pair)

    def _forget(self) -> None:
        decided = sorted(sorted(it) for it in self._union.together | self._union.apart)
        if decided:
            one, other = self._chance.choice(decided)
            self._pull()
            decide(self._reader.runtime, one, other, is_same=None, stream="accounts")
            self._union.together.discard(frozenset((one, other)))
            self._union.apart.discard(frozenset((one, other)))

    # ------------------------------------------------------------ people

    def _change_address(self) -> None:
        person = self._any("contacts")
        other = self._any("contacts")
        taken = {it.proofs.get("email") for it in self._alive("contacts", SECOND)}
        address = other.proofs.get("email")
        if person.crm == SECOND and address in taken:
            # A portal has each address once.
            address = f"person.{self._chance.randrange(10**6)}@elsewhere.example"
        self._edit(person, {"Email": address}, {"email": address})

    def _move_person(self) -> None:
        person = self._any("contacts")
        account = self._any("accounts", person.crm)
        if person.crm == SECOND:
            self._associate(person, "accounts", account, _link(person, "AccountId"))
        name = f"Moved {self._chance.randrange(100)}"
        self._edit(person, {"AccountId": _id(account)}, {"firstname": name})

    def _merge_people(self) -> None:
        crm = self._either()
        known = self._alive("contacts", crm)
        if len(known) > FEWEST:
            winner, loser = self._chance.sample(known, 2)
            self._crms[crm].merge(OBJECT["contacts", crm], _id(winner), [_id(loser)])

    # ------------------------------------------------------------ the rest

    def _serve(self) -> None:
        ticket = self._any("tickets")
        status = self._chance.choice(("New", "Closed", "Closed"))
        stage = {"New": "1", "Closed": "4"}[status]
        kind = self._chance.choice(("Problem", "Question"))
        category = {"Problem": "PRODUCT_ISSUE", "Question": "GENERAL_INQUIRY"}[kind]
        self._edit(
            ticket,
            {"Status": status, "Type": kind},
            {"hs_pipeline_stage": stage, "hs_ticket_category": category},
        )

    def _answer(self) -> None:
        crm = self._either()
        account, person, score = (
            self._any("accounts", crm),
            self._any("contacts", crm),
            self._chance.randrange(11),
        )
        at = self._clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        if crm == FIRST:
            answer: Fields = {
                "Kind__c": "NPS",
                "Score__c": score,
                "Submitted_At__c": at,
                "Account__c": _id(account),
                "Contact__c": _id(person),
            }
            self._crms[FIRST].create("Survey_Response__c", answer)
        else:
            linked = {"companies": [_id(account)], "contacts": [_id(person)]}
            answer = {"hs_survey_type": "NPS", "hs_value": score, "hs_submission_timestamp": at}
            self._crms[SECOND].create("feedback_submissions", answer, associations=linked)

    def _go_on_with_lead(self) -> None:
        lead = self._any("leads")
        if lead.crm == SECOND:
            stage = self._chance.choice(("salesqualifiedlead", "customer"))
            fields = {"lifecyclestage": stage, "hs_analytics_source": "REFERRALS"}
            self._crms[SECOND].edit("contacts", _id(lead), fields)
            return
        account, deal = self._any("accounts", FIRST), self._any("deals", FIRST)
        changed: Fields = {
            "IsConverted": True,
            "ConvertedDate": "2026-06-01",
            "Qualified_At__c": "2026-05-01T08:00:00.000+0000",
            "ConvertedAccountId": _id(account),
            "ConvertedOpportunityId": self._chance.choice((None, _id(deal))),
        }
        self._crms[FIRST].edit("Lead", _id(lead), changed)

    def _refresh(self) -> None:
        self._reader.pull(full=True)
        self.needs_full = False

    def _pull(self) -> None:
        self._reader.pull(full=self.needs_full)
        self.needs_full = False


def _id(record: Seen) -> str:
    return record.key.partition(":")[2]


def _link(record: Seen, name: str) -> Link | None:
    value = record.fields[name]
    return value if isinstance(value, Link) else None


def _text(amount: int | None) -> str | None:
    return None if amount is None else str(amount)

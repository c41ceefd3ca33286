"""A company whose records stand in two CRMs has, value by value, the KPIs of the same in one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from metrics.definition import KpiSettings
from store.canonical import (
    Account,
    Campaign,
    CampaignMember,
    CanonicalRecord,
    Contact,
    Contract,
    Deal,
    DealContact,
    Key,
    Lead,
    RecordRef,
    Stage,
    StageChange,
    SurveyResponse,
    Ticket,
)
from store.identity_rules import IdentityRules, MatchRule, StreamRules
from tests.pipeline.metrics.books import BERLIN, Books

FIRST, SECOND = "salesforce", "hubspot"
START = datetime(2024, 1, 10, 9, tzinfo=UTC)
ACCOUNTS, DEALS_OF_EACH = 9, 3


def _same(field: str) -> MatchRule:
    words = f"same {SECOND}.{field} = {FIRST}.Id"
    return MatchRule("same", words, ((SECOND, field), (FIRST, "")))


RULES = IdentityRules(
    {
        "accounts": StreamRules(
            (_same("twin"), MatchRule("domain", "domain website", (("*", "domain"),))),
            (FIRST, SECOND),
        ),
        "contacts": StreamRules((MatchRule("email", "email email", (("*", "email"),)),), (FIRST,)),
        "deals": StreamRules((_same("twin"),), (FIRST, SECOND), preferred=(("region", SECOND),)),
    }
)
SETTINGS = KpiSettings(
    company=BERLIN,
    use=("sales", "customer", "marketing", "service"),
    periods=("month", "year"),
    by={
        "win_rate": (("account",), ("region",)),
        "won_value": (("product",), ("region",), ("account",)),
        "sales_cycle_days": (("decision_makers",),),
    },
)

R = TypeVar("R", bound=CanonicalRecord)


class Divided:
    """One company in two CRMs, and who is one with whom, known without looking at any rule."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.records: dict[RecordRef, CanonicalRecord] = {}
        self.changed: dict[RecordRef, CanonicalRecord] = {}
        self.clock = START
        self._fill()

    # ---- what stands where

    def put(self, record: CanonicalRecord) -> None:
        self.clock += timedelta(seconds=1)
        stamped = replace(record, modified_at=self.clock)
        self.records[record.ref] = self.changed[record.ref] = stamped

    def edit(self, record: CanonicalRecord, **fields: Any) -> None:
        self.put(replace(record, **fields))

    def all(self, kind: type[R], crm: str | None = None) -> list[R]:
        return [
            one
            for one in self.records.values()
            if isinstance(one, kind)
            and not one.deleted
            and one.merged_into is None
            and crm in (None, one.ref.connection)
        ]

    def any(self, kind: type[R], crm: str | None = None) -> R:
        return self.chance.choice(self.all(kind, crm))

    def page(self) -> list[CanonicalRecord]:
        page = list(self.changed.values())
        self.changed.clear()
        self.chance.shuffle(page)
        return page

    def _fill(self) -> None:
        for crm in (FIRST, SECOND):
            for place, name in enumerate(("new", "talks", "done")):
                self.put(
                    Stage(
                        ref=RecordRef(crm, "stages", name),
                        label=name,
                        pipeline=f"{crm}:sales",
                        position=place,
                        is_closed=name == "done",
                    )
                )
            self.put(
                Campaign(
                    ref=RecordRef(crm, "campaigns", "C1"),
                    start_date=date(2024, 1, 1),
                    cost=Decimal(50),
                )
            )
        for number in range(ACCOUNTS):
            where = (FIRST, SECOND, "both")[number % 3]
            for crm in (FIRST, SECOND):
                if where in (crm, "both"):
                    self._customer(crm, number, is_twin=where == "both" and crm == SECOND)

    def _customer(self, crm: str, number: int, *, is_twin: bool) -> None:
        # Of the twins every second is known by its domain alone.
        by_domain = number % 2 == 0
        site = f"company-{number}.com"
        account = Account(
            ref=RecordRef(crm, "accounts", f"A{number}{'h' * (crm == SECOND)}"),
            name=f"Customer {number}",
            domain=site if by_domain or not is_twin else f"eu-{site}",
            created_at=START - timedelta(days=300),
            owner=f"{crm}:ana",
            region=f"R{number % 2}",
            extra={"twin": f"A{number}"} if is_twin and not by_domain else {},
        )
        self.put(account)
        person = Contact(
            ref=RecordRef(crm, "contacts", f"P{number}{'h' * (crm == SECOND)}"),
            name=f"Person {number}",
            email=f"person@{site}",
            account=account.ref.key,
        )
        self.put(person)
        self.put(
            CampaignMember(
                ref=RecordRef(crm, "campaign_members", f"M{number}"),
                campaign=f"{crm}:C1",
                contact=person.ref.key,
                at=START + timedelta(days=number, hours=crm == SECOND),
            )
        )
        for place in range(DEALS_OF_EACH):
            is_copied = is_twin and place == 0
            self.new_deal(account, person, f"D{number}-{place}", twin=is_copied)
        self.put(
            Ticket(
                ref=RecordRef(crm, "tickets", f"T{number}"),
                account=account.ref.key,
                contact=person.ref.key,
                category="how",
                created_at=START + timedelta(days=7 * number),
            )
        )
        for day in (1, 2):
            self.put(
                SurveyResponse(
                    ref=RecordRef(crm, "survey_responses", f"S{number}-{day}"),
                    score=Decimal(number + day),
                    submitted_at=START + timedelta(days=day, hours=crm == SECOND),
                    account=account.ref.key,
                    contact=person.ref.key,
                )
            )
        self.put(
            Contract(
                ref=RecordRef(crm, "contracts", f"K{number}"),
                account=account.ref.key,
                start_date=date(2024, 1, 1) + timedelta(days=10 * number),
                end_date=date(2024, 3, 1) + timedelta(days=20 * number * (1 + (crm == FIRST))),
            )
        )
        self.put(
            Lead(
                ref=RecordRef(crm, "leads", f"L{number}"),
                created_at=START + timedelta(days=number),
                converted_at=START + timedelta(days=9),
                converted_account=account.ref.key,
                converted_deal=f"{crm}:{self._native(f'D{number}-0', crm)}" if number % 2 else None,
            )
        )

    @staticmethod
    def _native(name: str, crm: str) -> str:
        return f"{name}{'h' * (crm == SECOND)}"

    def new_deal(self, account: Account, person: Contact, name: str, *, twin: bool = False) -> None:
        crm = account.ref.connection
        outcome = self.chance.randrange(4)
        deal = Deal(
            ref=RecordRef(crm, "deals", self._native(name, crm)),
            account=account.ref.key,
            owner=f"{crm}:ana",
            pipeline=f"{crm}:sales",
            stage=f"{crm}:done" if outcome else f"{crm}:talks",
            is_closed=outcome > 0,
            is_won=outcome > 1,
            amount=Decimal(self.chance.randrange(1, 900)),
            close_date=date(2024, 2, 1) + timedelta(days=self.chance.randrange(100)),
            created_at=START + timedelta(days=self.chance.randrange(20)),
            region=self.chance.choice((None, "R0", "R1")),
            product=self.chance.choice((None, "pump", "pipe")),
            kind=self.chance.choice(("new", "upsell")),
            extra={"twin": name} if twin else {},
        )
        self.put(deal)
        for place, stage in enumerate(("new", "talks", "done")[: 2 + deal.is_closed]):
            self.put(
                StageChange(
                    ref=RecordRef(crm, "deal_stage_changes", f"{deal.ref.native_id}-{place}"),
                    deal=deal.ref.key,
                    stage=f"{crm}:{stage}",
                    at=(deal.created_at or START) + timedelta(days=3 * place, hours=crm == SECOND),
                )
            )
        self.put(
            DealContact(
                ref=RecordRef(crm, "deal_contacts", deal.ref.native_id),
                deal=deal.ref.key,
                contact=person.ref.key,
            )
        )

    # ---- what happens

    def happen(self) -> None:
        """One random thing in one of the CRMs, or in both where the integration copies it."""
        self.chance.choice(
            (
                self._edit_deal,
                self._edit_deal,
                self._edit_deal,
                self._edit_copied_deal,
                self._move_deal,
                self._rename_site,
                self._merge_accounts,
                self._unlink,
                self._link,
                self._unlink_deal,
                self._delete_deal,
                self._delete_or_restore_account,
                self._change_email,
                self._add_deal,
                self._move_person,
                self._read_again,
            )
        )()

    def _edit_deal(self) -> None:
        deal = self.any(Deal)
        is_won = self.chance.random() < 0.6
        self.edit(
            deal,
            amount=self.chance.choice((None, Decimal(self.chance.randrange(1, 900)))),
            product=self.chance.choice((None, "pump", "pipe")),
            is_closed=True,
            is_won=is_won,
            stage=f"{deal.ref.connection}:done",
        )

    def _edit_copied_deal(self) -> None:
        copies = [one for one in self.all(Deal, SECOND) if "twin" in one.extra]
        if copies:
            copy = self.chance.choice(copies)
            amount = Decimal(self.chance.randrange(1, 900))
            self.edit(copy, amount=amount)
            original = self.records.get(RecordRef(FIRST, "deals", str(copy.extra["twin"])))
            if original is not None and not original.deleted:
                self.edit(original, amount=amount)

    def _move_deal(self) -> None:
        deal = self.any(Deal)
        self.edit(deal, account=self.any(Account, deal.ref.connection).ref.key)

    def _rename_site(self) -> None:
        account = self.any(Account)
        self.edit(account, domain=f"company-{self.chance.randrange(ACCOUNTS)}.com")

    def _merge_accounts(self) -> None:
        crm = self.chance.choice((FIRST, SECOND))
        if len(self.all(Account, crm)) > 3:
            winner, loser = self.chance.sample(self.all(Account, crm), 2)
            self.edit(loser, merged_into=winner.ref.key, deleted=crm == FIRST)
            self.edit(winner, region=f"R{self.chance.randrange(2)}")

    def _unlink(self) -> None:
        self.edit(self.any(Account, SECOND), extra={}, domain=None)

    def _link(self) -> None:
        self.edit(self.any(Account, SECOND), extra={"twin": self._some_id(Account)})

    def _some_id(self, kind: type[CanonicalRecord]) -> str:
        everybody = [
            one
            for one in self.records.values()
            if isinstance(one, kind) and one.ref.connection == FIRST
        ]
        return self.chance.choice(everybody).ref.native_id

    def _unlink_deal(self) -> None:
        deal = self.any(Deal, SECOND)
        self.edit(deal, extra={} if "twin" in deal.extra else {"twin": self._some_id(Deal)})

    def _delete_deal(self) -> None:
        if len(self.all(Deal)) > DEALS_OF_EACH:
            self.edit(self.any(Deal), deleted=True)

    def _delete_or_restore_account(self) -> None:
        gone = [
            one
            for one in self.records.values()
            if isinstance(one, Account) and one.deleted and one.merged_into is None
        ]
        if gone:
            self.edit(self.chance.choice(gone), deleted=False)
        elif len(self.all(Account)) > ACCOUNTS // 2:
            self.edit(self.any(Account), deleted=True)

    def _change_email(self) -> None:
        person = self.any(Contact)
        number = self.chance.randrange(ACCOUNTS)
        self.edit(person, email=f"person@company-{number}.com", name=f"Person {number}")

    def _add_deal(self) -> None:
        person = self.any(Contact)
        account = self.any(Account, person.ref.connection)
        self.new_deal(account, person, f"N{self.chance.randrange(10**9)}")

    def _move_person(self) -> None:
        person = self.any(Contact)
        self.edit(person, account=self.any(Account, person.ref.connection).ref.key)

    def _read_again(self) -> None:
        """A full refresh: everything comes again, as it is."""
        self.changed |= self.records

    # ---- the same company in one CRM

    def in_one(self) -> Iterator[CanonicalRecord]:
        """Its records with every customer, person and deal once, under the first CRM's key."""
        accounts, people = self._customers(), self._people()
        deals = self._deals()
        for one in self.records.values():
            if isinstance(one, Deal) and deals.get(one.ref.key, one.ref.key) != one.ref.key:
                continue
            if isinstance(one, Account | Contact):
                known = accounts if isinstance(one, Account) else people
                if known.get(one.ref.key, one.ref.key) != one.ref.key:
                    continue
            links: dict[str, Any] = self._from_copies(one, deals) if isinstance(one, Deal) else {}
            for name, known in (
                ("account", accounts),
                ("converted_account", accounts),
                ("contact", people),
                ("converted_deal", deals),
            ):
                if name in type(one).__dataclass_fields__:
                    key = getattr(one, name)
                    links[name] = known.get(key, key)
            if isinstance(one, CampaignMember) and one.contact is not None:
                links["contact"] = people.get(one.contact, one.contact)
            yield replace(one, extra={}, merged_into=None, **links)

    def _from_copies(self, deal: Deal, deals: dict[Key, Key | None]) -> dict[str, Any]:
        """A region of the second CRM goes first, a product where the deal itself has none."""
        copies = [
            one
            for one in sorted(self.all(Deal), key=lambda one: one.ref.key)
            if one.ref.key != deal.ref.key and deals[one.ref.key] == deal.ref.key
        ]
        values: dict[str, Any] = {}
        for name, in_order in (
            ("product", (deal, *copies)),
            ("amount", (deal, *copies)),
            ("region", sorted((deal, *copies), key=lambda one: one.ref.connection != SECOND)),
        ):
            said = (getattr(one, name) for one in in_order)
            values[name] = next((value for value in said if value is not None), None)
        return values

    def _customers(self) -> dict[Key, Key | None]:
        """Account -> for whom it stands: merges first, then ids, then domains held once in each."""
        heads = {one.ref.key: self._head(one) for one in self._every(Account)}
        living = {key: head for key, head in heads.items() if head is not None}
        groups = _Groups(sorted(set(living.values())))
        for one in self.all(Account, SECOND):
            twin = living.get(f"{FIRST}:{one.extra.get('twin')}")
            if twin is not None:
                groups.join(twin, one.ref.key)
        sites: dict[str, list[Account]] = {}
        for one in self.all(Account):
            if one.domain is not None:
                sites.setdefault(one.domain, []).append(one)
        for _, holders in sorted(sites.items()):
            groups.join_if_clear([one.ref.key for one in holders])
        return {key: None if head is None else groups.first(head) for key, head in heads.items()}

    def _people(self) -> dict[Key, Key | None]:
        everybody = self.all(Contact)
        groups = _Groups([one.ref.key for one in everybody])
        addresses: dict[str, list[Key]] = {}
        for one in everybody:
            addresses.setdefault(str(one.email), []).append(one.ref.key)
        for _, holders in sorted(addresses.items()):
            groups.join_if_clear(holders)
        return {one.ref.key: groups.first(one.ref.key) for one in everybody}

    def _deals(self) -> dict[Key, Key | None]:
        everybody = self.all(Deal)
        groups = _Groups([one.ref.key for one in everybody])
        for one in self.all(Deal, SECOND):
            twin = f"{FIRST}:{one.extra.get('twin')}"
            if twin in groups.sets:
                groups.join(twin, one.ref.key)
        return {one.ref.key: groups.first(one.ref.key) for one in everybody}

    def _every(self, kind: type[R]) -> list[R]:
        return [one for one in self.records.values() if isinstance(one, kind)]

    def _head(self, account: Account) -> Key | None:
        while account.merged_into is not None:
            crm, _, native_id = account.merged_into.partition(":")
            winner = self.records[RecordRef(crm, "accounts", native_id)]
            assert isinstance(winner, Account)
            account = winner
        return None if account.deleted else account.ref.key


class _Groups:
    def __init__(self, keys: list[Key]) -> None:
        self.sets = {key: {key} for key in keys}

    def join(self, one: Key, other: Key) -> None:
        together = self.sets[one] | self.sets[other]
        for key in together:
            self.sets[key] = together

    def join_if_clear(self, holders: list[Key]) -> None:
        """Where each CRM has one of them: two of one CRM are a question for a person."""
        sides = [
            {id(self.sets[k]) for k in holders if k.startswith(f"{crm}:")}
            for crm in (FIRST, SECOND)
        ]
        if all(len(side) == 1 for side in sides):
            for key in holders[1:]:
                self.join(holders[0], key)

    def first(self, key: Key) -> Key:
        return min(
            self.sets[key], key=lambda one: (not one.startswith(FIRST), AGES.get(one, 0), one)
        )


AGES: dict[Key, int] = {}


def compare(divided: Divided, linked: Books, path: str) -> None:
    """Values of both, by their keys; what merely emptied is like what never was."""
    reference = Books(path, SETTINGS)
    reference.commit(*divided.in_one())
    reference.now = linked.now
    reference.publish(later=timedelta())
    one, other = (
        {
            place: (value.value, value.numerator, value.denominator, value.n, dict(value.left_out))
            for place, value in books.current().items()
            if value.n or any(value.left_out.values())
        }
        for books in (linked, reference)
    )
    reference.close()

    assert one == other


@pytest.mark.parametrize(
    ("edits", "seed"),
    [(24, 1), pytest.param(300, 2, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_a_company_split_over_two_crms_has_the_kpis_of_the_same_company_in_one(
    database_url: str, tmp_path_factory: pytest.TempPathFactory, edits: int, seed: int
) -> None:
    divided = Divided(seed)
    linked = Books(database_url, replace(SETTINGS, matching=RULES))
    folder = tmp_path_factory.mktemp("references")
    linked.commit(*divided.page())
    linked.publish()
    compare(divided, linked, f"sqlite:///{folder / 'first.db'}")

    for done in range(edits):
        divided.happen()
        if done % 2:
            linked.commit(*divided.page())
        if done % 12 == 11:
            linked.publish()
            compare(divided, linked, f"sqlite:///{folder / f'{done}.db'}")
    linked.check()
    linked.close()

"""What must hold once all is quiet, looked at from outside: CRMs and command line, nothing else.

Written from the promises (docs/architecture.md), not from the code that keeps them. Each finding is
one sentence that begins with the invariant's number.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import sqlalchemy

from tests.chaos.people import ACCOUNTS, DEALS, FIELDS, SPOILT
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Crm, Sandbox

Row = Mapping[str, object]


@dataclass(frozen=True)
class Look:
    """Everything a checker sees."""

    cli: Cli
    sandbox: Sandbox
    written: Mapping[str, Mapping[str, tuple[str, int]]]
    """CRM -> field -> (KPI, factor): what write-backs may write."""
    lost_answers: int = 0
    secrets: tuple[str, ...] = ()
    database: str = ""
    """The store's address; empty: the file that `kpisync.yaml` names by default."""
    forgotten_counts: int = 0
    """How often the shared count of calls was lost: Redis emptied or away."""

    @property
    def store(self) -> str:
        """What SQLAlchemy opens."""
        address = self.database or f"sqlite:///{self.cli.folder}/kpisync.db"
        return address.replace("postgresql://", "postgresql+psycopg://")

    def crms(self) -> Iterator[tuple[str, Crm]]:
        yield "salesforce", self.sandbox.salesforce
        yield "hubspot", self.sandbox.hubspot


def findings(look: Look) -> list[str]:
    """Every broken promise; none when all is well."""
    return [
        *store_equals_the_crms(look),
        *values_equal_a_recomputation(look),
        *fields_equal_the_values(look),
        *no_redundant_write(look),
        *nothing_else_was_written(look),
        *unreadable_records_are_listed(look),
        *no_older_value_over_a_newer(look),
        *calls_keep_to_the_limits(look),
        *runs_add_up(look),
        *no_secret_anywhere(look),
        # Last, for it works: two more cycles without edits do nothing.
        *quiet_stays_quiet(look),
    ]


# ---------------------------------------------------------------- I1, I2


def store_equals_the_crms(look: Look) -> Iterator[str]:
    """I1, I2: each live record of the CRMs once in the store, as it is there."""
    deals = look.cli("dump", "records", "deals").lines
    accounts = look.cli("dump", "records", "accounts").lines
    for rows, kind in ((deals, "deals"), (accounts, "accounts")):
        refs = [row["ref"] for row in rows]
        if len(set(refs)) < len(refs):
            yield f"I2: {len(refs) - len(set(refs))} {kind} are stored twice"
    for name, crm in look.crms():
        snapshot = crm.snapshot()
        yield from _compared(name, "accounts", accounts, snapshot[ACCOUNTS[name]], _ACCOUNT[name])
        yield from _compared(name, "deals", deals, snapshot[DEALS[name]], _deal_fields(name))


def _compared(
    name: str, kind: str, rows: Sequence[Row], there: Sequence[Row], fields: Mapping[str, str]
) -> Iterator[str]:
    stored = {
        str(row["ref"]): row
        for row in rows
        if str(row["ref"]).startswith(f"{name}:") and not row["deleted"] and not row["merged_into"]
    }
    held = {f"{name}:{one['id']}": one for one in there if _is_alive(one) and _is_readable(one)}
    for ref in [f"{name}:{one['id']}" for one in there if not _is_readable(one)]:
        # What it held before it became unreadable may stay.
        stored.pop(ref, None)
    for ref in sorted(held.keys() - stored.keys()):
        yield f"I1: {kind} {ref} is in the CRM and not in the store"
    for ref in sorted(stored.keys() - held.keys()):
        yield f"I1: {kind} {ref} is in the store and not in the CRM"
    for ref in sorted(stored.keys() & held.keys()):
        native = held[ref]["fields"]
        assert isinstance(native, Mapping)
        for canonical, field in fields.items():
            ours, theirs = stored[ref][canonical], native.get(field)
            if not _is_same(canonical, ours, theirs, name):
                yield f"I1: {kind} {ref}.{canonical} is {ours!r}, in the CRM {theirs!r}"


def _is_alive(one: Row) -> bool:
    return not one["deleted"] and not one["merged_into"]


def _is_readable(one: Row) -> bool:
    fields = one["fields"]
    assert isinstance(fields, Mapping)
    return fields.get("amount") != SPOILT


_ACCOUNT = {"salesforce": {"name": "Name"}, "hubspot": {"name": "name"}}


def _deal_fields(name: str) -> dict[str, str]:
    fields = {"amount": FIELDS[name]["amount"], "name": FIELDS[name]["name"]}
    if name == "salesforce":
        fields |= {"account": "AccountId", "owner": "OwnerId", "close_date": "CloseDate"}
    return fields


def _is_same(canonical: str, ours: object, theirs: object, name: str) -> bool:
    if theirs in {None, ""}:
        return ours is None
    if canonical == "amount":
        return ours is not None and Decimal(str(ours)) == Decimal(str(theirs))
    if canonical in {"account", "owner"}:
        return ours == f"{name}:{theirs}"
    return ours == theirs


# ---------------------------------------------------------------- I3, I5


def values_equal_a_recomputation(look: Look) -> Iterator[str]:
    """I3: every value is what a recomputation from the stored records gives."""
    found = look.cli("verify", "--json", expect_exit=None).json
    for one in found["differences"][:10]:
        yield f"I3: {json.dumps(one)}"
    if not found["ok"] and not found["differences"]:
        yield "I3: verify is not ok and names no difference"


def fields_equal_the_values(look: Look) -> Iterator[str]:
    """I5: each written field holds the store's value in the field's rounding."""
    values = {
        (row["kpi"], row["key"]): row["value"]
        for row in look.cli("dump", "kpis").lines
        if row["dimension"] == "account" and row["period"] == "all"
    }
    for name, crm in look.crms():
        for one in crm.snapshot()[ACCOUNTS[name]]:
            if not _is_alive(one):
                continue
            native = one["fields"]
            assert isinstance(native, Mapping)
            for field, (kpi, factor) in look.written[name].items():
                value = values.get((kpi, f"{name}:{one['id']}"))
                yield from _compared_field(f"{name}:{one['id']}", field, value, native, factor)


def _compared_field(
    ref: str, field: str, value: object, native: Mapping[str, object], factor: int
) -> Iterator[str]:
    if value is None:
        return  # a blank keeps what stands there
    held = native.get(field)
    exact = Decimal(str(value)) * factor
    if held in {None, ""}:
        yield f"I5: {ref}.{field} is empty, the value is {exact}"
        return
    number = Decimal(str(held))
    digits = Decimal(1).scaleb(max(-4, min(-2, _exponent(number))))
    if (
        exact.quantize(digits, ROUND_HALF_UP) != number
        and exact.quantize(Decimal("0.01"), ROUND_HALF_UP) != number
    ):
        yield f"I5: {ref}.{field} is {held}, the value is {exact}"


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


# ---------------------------------------------------------------- I6, I8


def no_redundant_write(look: Look) -> Iterator[str]:
    """I6: no field was written with what it held, but for answers that were lost."""
    redundant = [
        f"{name} {entry['object']} {entry['id']}.{entry['field']} = {entry['new']}"
        for name, crm in look.crms()
        for entry in crm.journal()
        if entry["redundant"]
    ]
    if len(redundant) > look.lost_answers:
        shown = "; ".join(redundant[:5])
        yield f"I6: {len(redundant)} redundant writes, {look.lost_answers} lost answers: {shown}"


def nothing_else_was_written(look: Look) -> Iterator[str]:
    """I8: no write outside the named fields, no blank over a value."""
    for name, crm in look.crms():
        for entry in crm.journal():
            is_meant = entry["object"] == ACCOUNTS[name] and entry["field"] in look.written[name]
            is_ours = entry["object"] in {"Account", "Opportunity", "companies", "deals"}
            if is_ours and not is_meant:
                yield f"I8: {name} {entry['object']}.{entry['field']} was written"
            if is_meant and entry["old"] not in {None, ""} and entry["new"] in {None, ""}:
                yield f"I8: {name} {entry['id']}.{entry['field']} was blanked"


# ---------------------------------------------------------------- I9


def unreadable_records_are_listed(look: Look) -> Iterator[str]:
    """I9: each rejected record once in the dead letters, and no other record."""
    listed = [
        row["ref"] for row in look.cli("dump", "deadletters").lines if row["direction"] == "pull"
    ]
    spoilt = {
        f"{name}:{one['id']}"
        for name, crm in look.crms()
        for one in crm.snapshot()[DEALS[name]]
        if _is_alive(one) and not _is_readable(one)
    }
    if len(set(listed)) < len(listed):
        yield f"I9: {len(listed) - len(set(listed))} records have two dead letters"
    for ref in sorted(spoilt - set(listed)):
        yield f"I9: {ref} cannot be read and has no dead letter"
    for ref in sorted(set(listed) - spoilt):
        yield f"I9: {ref} can be read and has a dead letter"


# ---------------------------------------------------------------- I10


def no_older_value_over_a_newer(look: Look) -> Iterator[str]:
    """I10: what was written to a field, one after the other, never goes back in its history."""
    engine = sqlalchemy.create_engine(look.store)
    query = sqlalchemy.text(
        "SELECT kpi, key, value FROM kpi_values WHERE dimension = 'account' AND period = 'all'"
        " AND value IS NOT NULL ORDER BY id"
    )
    history = defaultdict(list)
    with engine.connect() as conn:
        for kpi, key, value in conn.execute(query):
            history[kpi, key].append(Decimal(str(value)))
    engine.dispose()
    for name, crm in look.crms():
        written: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
        for entry in crm.journal():
            field = str(entry["field"])
            if field in look.written[name] and entry["new"] not in {None, ""}:
                written[str(entry["id"]), field].append(Decimal(str(entry["new"])))
        for (record, field), values in written.items():
            kpi, factor = look.written[name][field]
            exact = [value * factor for value in history[kpi, f"{name}:{record}"]]
            yield from went_back(f"{name}:{record}.{field}", values, exact)


def went_back(place: str, written: Sequence[Decimal], history: Sequence[Decimal]) -> Iterator[str]:
    at = 0
    for value in written:
        ahead = next((i for i in range(at, len(history)) if _rounds_to(history[i], value)), None)
        if ahead is None:
            yield f"I10: {place} was given {value}, which is none of its values since the last one"
            return
        at = ahead


def _rounds_to(exact: Decimal, held: Decimal) -> bool:
    return any(
        exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP) == held for places in (2, 3, 4)
    )


# ---------------------------------------------------------------- I11

LIMITS = {"burst": (100, timedelta(seconds=10)), "search": (5, timedelta(seconds=1))}


def calls_keep_to_the_limits(look: Look) -> Iterator[str]:
    """I11: HubSpot's two limits of calls are kept by all processes together.

    When the shared count is lost, whoever counted before and whoever counts after may each take
    the whole.
    """
    calls = look.sandbox.hubspot.requests()
    for kind, (most, span) in LIMITS.items():
        times = sorted(
            datetime.fromisoformat(str(one["at"]))
            for one in calls
            if str(one["path"]).endswith("/search") == (kind == "search")
        )
        allowed = most * (2 if look.forgotten_counts else 1)
        if (seen := busiest(times, span)) > allowed:
            yield f"I11: {seen} {kind} calls to HubSpot within {span}, {allowed} are allowed"


def busiest(times: Sequence[datetime], span: timedelta) -> int:
    """The most instants within any such span."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= span:
            first += 1
        most = max(most, last - first + 1)
    return most


# ---------------------------------------------------------------- I7, I12, I13


def quiet_stays_quiet(look: Look) -> Iterator[str]:
    """I7: two more cycles without edits write nothing and change nothing."""
    before = sum(len(crm.journal()) for _, crm in look.crms())
    values = look.cli("dump", "kpis").out
    known = {run["run"] for run in look.cli("dump", "runs").lines}
    for _ in range(2):
        look.cli("drain", "--timeout", "120")
    if sum(len(crm.journal()) for _, crm in look.crms()) != before:
        yield "I7: a cycle without edits wrote into a CRM"
    if look.cli("dump", "kpis").out != values:
        yield "I7: a cycle without edits changed a value"
    for run in look.cli("dump", "runs").lines:
        if run["run"] not in known and (run["stored"] or run["sent"]):
            yield f"I7: a cycle without edits stored or sent something: {json.dumps(run)}"
    if look.cli("status", "--json").json["dirty_keys"]:
        yield "I7: dirty keys are left"


def runs_add_up(look: Look) -> Iterator[str]:
    """I13: every run has ended and its counts add up."""
    for run in look.cli("dump", "runs").lines:
        if run["state"] == "running":
            yield f"I13: run {run['run']} never ended"
        if run["pulled"] != run["stored"] + run["unchanged"] + run["dead"]:
            yield f"I13: the counts of run {run['run']} do not add up: {json.dumps(run)}"


def no_secret_anywhere(look: Look) -> Iterator[str]:
    """I12: no secret stands in any file that was left behind."""
    for path in sorted(look.cli.folder.rglob("*")):
        if path.is_file() and path.name != "kpisync.yaml":
            yield from _secrets_in(path.name, path.read_bytes(), look.secrets)
    if look.database:
        yield from _secrets_in("the database", _everything_in(look.store), look.secrets)


def _everything_in(address: str) -> bytes:
    engine = sqlalchemy.create_engine(address)
    tables = sqlalchemy.inspect(engine).get_table_names()
    with engine.connect() as conn:
        found = [
            str(row)
            for table in tables
            for row in conn.execute(sqlalchemy.select("*").select_from(sqlalchemy.table(table)))
        ]
    engine.dispose()
    return "\n".join(found).encode()


def _secrets_in(place: str, content: bytes, secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        if secret.encode() in content:
            yield f"I12: a secret stands in {place}"

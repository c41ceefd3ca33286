"""A CRM of the sandbox in the words of the contract suite."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from connectors.contract.org import Calls, Fault, Org
from tests.fixtures.sandboxes import Crm


class SandboxOrg(Org):
    """What the sandbox does alike for both CRMs."""

    reading: str
    """A part of the address of every call that reads records."""
    writing: str
    """A part of the address of every call that writes values."""

    def __init__(self, crm: Crm) -> None:
        self.crm = crm

    def spoil(self, fault: Fault, calls: Calls, *, times: int | None = 1) -> None:
        where = {Calls.READS: {"path": self.reading}, Calls.WRITES: {"path": self.writing}}
        kind, how = _FAULTS[fault]
        if fault is Fault.HTML and calls is Calls.ALL:
            how = {"status": 502}
        self.crm.fault(
            kind, times="forever" if times is None else times, **how, **where.get(calls, {})
        )

    def mend(self) -> None:
        self.crm.clear_faults()

    def advance(self, seconds: float) -> datetime:
        return datetime.fromisoformat(self.crm.clock(advance=seconds))

    def import_accounts(self, names: Sequence[str]) -> list[str]:
        at = self.crm.clock(advance=-3600)
        ids = self.create_accounts(names, at=at)
        self.crm.clock(advance=3600)
        return ids

    def add_accounts(self, names: Sequence[str], **how: object) -> list[str]:
        return self.create_accounts(names, **how)

    def create_accounts(self, names: Sequence[str], **how: object) -> list[str]:
        """The same, with the sandbox's own ways to say when."""
        raise NotImplementedError

    def add_account_committed_late(self, name: str, seconds: float) -> None:
        self.create_accounts([name], commit_after=seconds)

    def delete_account(self, account_id: str) -> None:
        self.crm.delete(self.account_object, account_id)

    def restore_account(self, account_id: str) -> None:
        self.crm.undelete(self.account_object, account_id)

    def merge_accounts(self, winner: str, losers: Sequence[str]) -> str:
        return self.crm.merge(self.account_object, winner, losers)

    def erase_account(self, account_id: str) -> None:
        self.crm.erase(self.account_object, account_id)

    def refuse_writes_of(self, record_id: str) -> None:
        self.crm.fault("validation", record=record_id, times="forever", message="Not today.")

    def lock(self, record_id: str) -> None:
        self.crm.fault("lock", record=record_id)

    def stored(self, account_id: str, field_name: str) -> object:
        """What the CRM holds in a field of an account."""
        fields = self.crm.record(self.account_object, account_id)["fields"]
        assert isinstance(fields, dict)
        return fields.get(field_name)


_FAULTS: dict[Fault, tuple[str, dict[str, object]]] = {
    Fault.BUSY: ("status", {"status": 503}),
    Fault.HTML: ("html", {"status": 200}),
    Fault.CUT: ("cut_json", {}),
    Fault.EMPTY: ("empty", {"status": 200}),
    Fault.STRANGE: ("status", {"status": 200, "body": {"message": "Try later."}}),
    Fault.SILENCE: ("hang", {"seconds": 30}),
    Fault.LOST: ("lost_answer", {}),
}

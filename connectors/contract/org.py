"""What a CRM must be able to show for its connector to be tested: written once for each CRM.

An `Org` says in the CRM's own words what people do there. What a CRM has no such thing as stands
in `lacks`, each with a reason; the tests that need it are skipped by name and listed at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn
from zoneinfo import ZoneInfo

from connectors.base import ConnectionSettings, StreamSettings, Tuning, WebRequest
from store.canonical import Company, FieldUpdate, Scalar

COMPANY = Company(ZoneInfo("Europe/Berlin"), "EUR")
QUICK = Tuning(
    read_timeout=timedelta(seconds=10),
    total_timeout=timedelta(seconds=20),
    retry_wait=timedelta(milliseconds=10),
    retry_wait_max=timedelta(milliseconds=50),
    page_size=200,
)
"""Pages and waits that fit tests; 450 accounts are three pages."""

DEAD_ADDRESS = "127.0.0.1:9"
"""Where nothing listens."""


class Ability(StrEnum):
    """What some CRMs, or the stand-ins of tests for them, do not have."""

    LOGIN = "login"
    """It asks for credentials and refuses wrong ones."""
    ADDRESS = "address"
    """It is reached over a network, at ``ConnectionSettings.base_url``."""
    FAULTS = "faults"
    """The test can spoil its answers."""
    QUOTA = "quota"
    """It stops answering when too many calls were made."""
    ORG_ID = "org_id"
    """It knows who it is."""
    INCREMENTS = "increments"
    """A pull can begin at a date or a cursor; otherwise everything is read each time."""
    QUIET = "quiet"
    """Without changes an increment brings no record again."""
    CLOCK = "clock"
    """The test can move its clock."""
    IMPORTS = "imports"
    """Many records can be given one change time."""
    LATE_COMMITS = "late_commits"
    """A record can become visible later than its change time says."""
    DELETIONS = "deletions"
    """Records can be deleted."""
    RETURNS = "returns"
    """Deleted records can be brought back."""
    MERGES = "merges"
    """Two records can become one."""
    ERASURES = "erasures"
    """Records can vanish without going through a bin."""
    TOLD_ERASURES = "told_erasures"
    """Increments tell of these, too."""
    STAGES = "stages"
    """It lists the stages of deals."""
    STAGE_HISTORY = "stage_history"
    """It remembers when a deal entered which stage."""
    LOOSE_STAGES = "loose_stages"
    """A deal can stand in a stage that is in no list."""
    OWN_FIELDS = "own_fields"
    """Users can add fields."""
    FIELD_RIGHTS = "field_rights"
    """Fields can be taken from the connected user's sight."""
    WRITING = "writing"
    """It can be written: the connector is a ``WriteTarget``."""
    REFUSALS = "refusals"
    """It refuses single records by rules of its own."""
    LOCKS = "locks"
    """A write can fail for a passing reason."""
    IDS = "ids"
    """Its ids can be listed alone: the connector ``ListsIds``."""
    COUNTS = "counts"
    """It counts its records: the connector ``CountsRecords``."""
    DISCOVERY = "discovery"
    """It shows what there is to map: the connector ``Discovers``."""
    DOORBELL = "doorbell"
    """It tells of changes as they happen: the connector has a ``Doorbell``."""


class Fault(StrEnum):
    """How an answer is spoilt."""

    BUSY = "busy"
    """Status 503, "service unavailable"."""
    HTML = "html"
    """A page for people where data should be."""
    CUT = "cut"
    """The answer ends in the midst."""
    EMPTY = "empty"
    """A success without a word."""
    STRANGE = "strange"
    """A success with data, but none that was asked for: no list of records, no results."""
    SILENCE = "silence"
    """No answer for half a minute."""
    LOST = "lost"
    """The call is carried out, its answer never arrives."""


class Calls(StrEnum):
    """Which calls a fault strikes."""

    READS = "reads"
    """Those that read records."""
    WRITES = "writes"
    """Those that write values."""
    ALL = "all"
    """Logging in and describing as well."""


class Org(ABC):
    """One CRM as people and faults see it; a fresh and empty one for each test.

    Methods without an ability beside them are always needed; the others only when `lacks` does
    not name theirs.
    """

    name = "crm"
    """Of the connection."""
    account_object: str
    """The CRM's own name of accounts."""
    kpi_field: str = "kpi_test"
    """A name that a KPI field on accounts may have; it contains ``test``."""
    lacks: Mapping[Ability, str] = {}
    """What this CRM does not have, each with the reason."""

    # ------------------------------------------------------------ always

    @abstractmethod
    def settings(
        self,
        *,
        tuning: Tuning = QUICK,
        streams: Mapping[str, StreamSettings] | None = None,
        auth: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> ConnectionSettings:
        """A connection with good credentials and the CRM's address, or with those given.

        Without `streams` it reads accounts and deals.
        """

    @abstractmethod
    def add_accounts(self, names: Sequence[str]) -> list[str]:
        """Accounts of these names; return their native ids."""

    @abstractmethod
    def rename_account(self, account_id: str, name: str) -> None:
        """Give an account another name."""

    @abstractmethod
    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        """Open deals, of an account if one is given; return their native ids."""

    @abstractmethod
    def win(self, deal_id: str) -> None:
        """Close a deal as won, today."""

    # ------------------------------------------------------------ by ability

    @property
    def wrong_credentials(self) -> Mapping[str, str]:
        """LOGIN: an `auth` the CRM refuses; every secret in it says ``wrong-secret``."""
        self._lacking("wrong_credentials", Ability.LOGIN)

    def spoil(self, fault: Fault, calls: Calls, *, times: int | None = 1) -> None:
        """FAULTS: spoil the next answers to such calls; None: until `mend`."""
        self._lacking("spoil", Ability.FAULTS)

    def mend(self) -> None:
        """FAULTS: answer properly again."""
        self._lacking("mend", Ability.FAULTS)

    def use_up_the_quota(self) -> None:
        """QUOTA: let the CRM refuse every call for lack of quota."""
        self._lacking("use_up_the_quota", Ability.QUOTA)

    def advance(self, seconds: float) -> datetime:
        """CLOCK: move the CRM's clock; return its time, aware."""
        self._lacking("advance", Ability.CLOCK)

    def import_accounts(self, names: Sequence[str]) -> list[str]:
        """IMPORTS: accounts that all changed at one instant, an hour ago."""
        self._lacking("import_accounts", Ability.IMPORTS)

    def add_account_committed_late(self, name: str, seconds: float) -> None:
        """LATE_COMMITS: stamped now, visible only so much later."""
        self._lacking("add_account_committed_late", Ability.LATE_COMMITS)

    def delete_account(self, account_id: str) -> None:
        """DELETIONS: delete as people do."""
        self._lacking("delete_account", Ability.DELETIONS)

    def restore_account(self, account_id: str) -> None:
        """RETURNS: bring a deleted account back."""
        self._lacking("restore_account", Ability.RETURNS)

    def merge_accounts(self, winner: str, losers: Sequence[str]) -> str:
        """MERGES: return the id under which they live on."""
        self._lacking("merge_accounts", Ability.MERGES)

    def erase_account(self, account_id: str) -> None:
        """ERASURES: remove it for good."""
        self._lacking("erase_account", Ability.ERASURES)

    def to_unknown_stage(self, deal_id: str) -> str:
        """LOOSE_STAGES: put a deal into a stage that is in no list; return its name."""
        self._lacking("to_unknown_stage", Ability.LOOSE_STAGES)

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        """OWN_FIELDS: give deals a text field, filled by deal id."""
        self._lacking("add_text_to_deals", Ability.OWN_FIELDS)

    def hide_amounts(self) -> str:
        """FIELD_RIGHTS: take the amount of deals out of sight; return the field's name."""
        self._lacking("hide_amounts", Ability.FIELD_RIGHTS)

    def refuse_writes_of(self, record_id: str) -> None:
        """REFUSALS: a rule of the CRM refuses writes of this account for good."""
        self._lacking("refuse_writes_of", Ability.REFUSALS)

    def lock(self, record_id: str) -> None:
        """LOCKS: the next write of this account fails for a passing reason."""
        self._lacking("lock", Ability.LOCKS)

    def notification(self) -> tuple[ConnectionSettings, WebRequest]:
        """DOORBELL: a connection that can tell what is genuine; a genuine request, of accounts.

        The request was made by the clock of this machine, just now.
        """
        self._lacking("notification", Ability.DOORBELL)

    # ------------------------------------------------------------ made of these

    def later(self, seconds: float) -> None:
        """Let time pass where the CRM's clock can be moved."""
        if Ability.CLOCK not in self.lacks:
            self.advance(seconds)

    def dead(self) -> ConnectionSettings:
        """A connection to an address where nothing listens."""
        return replace(self.settings(), base_url=f"http://{DEAD_ADDRESS}")

    def update(self, account_id: str, value: Scalar, field_name: str | None = None) -> FieldUpdate:
        """A value for the KPI field of an account."""
        return FieldUpdate(
            self.name, self.account_object, account_id, field_name or self.kpi_field, value
        )

    def _lacking(self, method: str, ability: Ability) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__}.{method} is missing: write it, or say in `lacks` why there is"
            f" no {ability.name}."
        )

"""Every way the store can fail, as few classes as the caller can act on differently.

Arguments are positional so that errors survive pickling. No message carries a password.
"""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot do what was asked."""

    retryable = False


class StoreUnavailable(StoreError):
    """The database is away, locked, full or read-only; nothing was decided, try again later."""

    retryable = True


class SchemaTooNew(StoreError):
    """A newer kpisync has upgraded the database; this one must not touch it."""


class SchemaTooOld(StoreError):
    """The database waits for ``kpisync db upgrade``."""


class SumTooLarge(StoreError):
    """Amounts add up to more than the store's integers hold; nothing of the step was stored."""

    def __str__(self) -> str:
        """What happened and where to look."""
        return (
            "amounts add up to more than the store can hold (9,000,000,000,000,000,000 minor units "
            "of one currency); nothing of this step was stored. Look for records with a mistaken "
            "amount in the CRM (the largest ones), correct them, and let the step run again"
        )


class LeaseLost(StoreError):
    """Another process has taken over (or may): everything since the last commit is void."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        """Name the lease, then what it means."""
        return (
            f'the lease "{self.name}" expired or was taken over by another process; '
            "this step is dropped and its holder goes on"
        )


class RecordsStoredAlready(StoreError):
    """The same org was read under another connection's name, and its records still count."""

    def __init__(self, connection: str, other: str, org_id: str) -> None:
        super().__init__(connection, other, org_id)
        self.connection = connection
        self.other = other
        self.org_id = org_id

    def __str__(self) -> str:
        """Name both connections and the ways out."""
        return (
            f"{self.connection}: records of org {self.org_id} are stored already, as those of the "
            f"connection {self.other}, which is not in the configuration any more; read again "
            f"they would count twice. Call the connection {self.other} again, or remove what is "
            f"stored of it: kpisync state forget {self.other}"
        )


class OrgPinned(StoreError):
    """The credentials lead to another org or portal than the stored data came from."""

    def __init__(self, connection: str, pinned: str, found: str) -> None:
        super().__init__(connection, pinned, found)
        self.connection = connection
        self.pinned = pinned
        self.found = found

    def __str__(self) -> str:
        """Name both orgs and the way out."""
        return (
            f"{self.connection}: its data came from org {self.pinned}, but the credentials lead "
            f"to org {self.found}; correct the credentials, or run "
            f"`kpisync state reset {self.connection} --org` if the change is meant"
        )


class RecordRefused(StoreError, ValueError):
    """A record that the store cannot hold without changing its meaning; a dead letter."""

    def __init__(self, field: str | None, reason: str, code: str, raw: str) -> None:
        super().__init__(field, reason, code, raw)
        self.field = field
        self.reason = reason
        self.code = code
        self.raw = raw

    def __str__(self) -> str:
        """The sentence for people."""
        return self.reason

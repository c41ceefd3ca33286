"""Faults a test or a rehearsal asks the sandbox for: what a bad day at a vendor looks like.

A request fault is served instead of (or around) the dialect's answer, for the next N requests
that match. A record fault is consulted by the dialects while they write that record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FOREVER = 1_000_000_000


class Kind(StrEnum):
    """What a matching request gets to see."""

    STATUS = "status"
    """A status with the body and headers given; without a body, as the vendor answers it."""
    HTML = "html"
    """An HTML page with the status given (200: a proxy's login page; 502: a gateway)."""
    EMPTY = "empty"
    """The status given and no body at all."""
    CUT_JSON = "cut_json"
    """The dialect's own answer, its body cut in half; whatever it wrote stays written."""
    HANG = "hang"
    """Accepted and never answered (given up after `seconds`, at most some minutes)."""
    SLOW = "slow"
    """The dialect's own answer, after `seconds`."""
    DISCONNECT = "disconnect"
    """The connection closes before anything was done."""
    LOST_ANSWER = "lost_answer"
    """The request takes effect, then the connection closes without an answer."""


@dataclass(slots=True)
class Fault:
    """One request fault and how often it still applies."""

    kind: Kind
    times: int = 1
    after: int = 0
    """Matching requests to let pass first."""
    method: str = ""
    """Empty: any."""
    path: str = ""
    """A part of the path with its query; empty: any."""
    body_contains: str = ""
    status: int = 500
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 120.0

    def matches(self, method: str, path: str, body: str) -> bool:
        """Whether this request is meant, without using the fault up."""
        return (
            self.method.upper() in ("", method.upper())
            and self.path in path
            and self.body_contains in body
        )


@dataclass(slots=True)
class RecordFault:
    """What happens to one record: a lock or a rule that refuses its writes, a failed read."""

    record_id: str
    kind: str
    """``lock`` or ``validation``, or a vendor's error code; the dialect gives it its shape."""
    times: int = 1
    message: str = ""
    field: str = ""
    """The field a validation error complains about; empty: the record."""
    on: str = "write"
    """Which access fails: ``write``, or ``associations`` (reading its links)."""


class FaultList:
    """The faults in force, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._requests: list[Fault] = []
        self._records: list[RecordFault] = []

    def add(self, fault: Fault | RecordFault) -> None:
        """Put a fault in force after those already there."""
        if isinstance(fault, RecordFault):
            self._records.append(fault)
        else:
            self._requests.append(fault)

    def clear(self) -> None:
        """Serve normally again."""
        self._requests.clear()
        self._records.clear()

    def take(self, method: str, path: str, body: str) -> Fault | None:
        """The fault this request gets, used up by one; None: serve it.

        Every matching fault counts the request for its `after`, up to the one that is served.
        """
        for fault in list(self._requests):
            if not fault.matches(method, path, body):
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self._requests.remove(fault)
            return fault
        return None

    def take_for_record(self, record_id: str, on: str = "write") -> RecordFault | None:
        """The fault this access to the record meets, used up by one; None: go on."""
        for fault in list(self._records):
            if fault.record_id == record_id and fault.on == on:
                fault.times -= 1
                if fault.times <= 0:
                    self._records.remove(fault)
                return fault
        return None

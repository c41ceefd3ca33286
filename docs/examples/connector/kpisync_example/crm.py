"""The tiny CRM: objects in memory behind HTTP and JSON, with the bad days of real ones.

``python -m kpisync_example.crm 8321`` serves one with a few records, for a look around.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "tiny-token"  # noqa: S105 - of a CRM that holds nothing
STANDARD = {"id": "text", "created_at": "datetime", "changed_at": "datetime"}
FIELDS = {
    "users": {"name": "text", "email": "text"},
    "stages": {"label": "text", "position": "number", "is_closed": "boolean", "is_won": "boolean"},
    "accounts": {"name": "text", "website": "text", "owner": "text"},
    "deals": {
        "name": "text",
        "account": "text",
        "owner": "text",
        "stage": "text",
        "amount": "number",
        "close_date": "date",
    },
}
Row = dict[str, Any]


@dataclass
class Spoilt:
    """A fault that strikes calls."""

    kind: str
    calls: str
    times: int | None


@dataclass
class TinyCrm:
    """The records, and what befalls the next calls."""

    rows: dict[str, dict[str, Row]] = field(default_factory=lambda: {name: {} for name in FIELDS})
    fields: dict[str, dict[str, str]] = field(
        default_factory=lambda: {name: STANDARD | more for name, more in FIELDS.items()}
    )
    hidden: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    spoilt: list[Spoilt] = field(default_factory=list)
    no_calls_until: datetime | None = None
    ahead: timedelta = timedelta()
    """How far the clock was moved."""
    ids: int = 0
    url: str = ""

    def now(self) -> datetime:
        """The CRM's clock."""
        return datetime.now(UTC) + self.ahead

    def add(
        self, name: str, rows: Sequence[Row], *, at: datetime | None = None, shown_in: float = 0
    ) -> list[str]:
        """New records, stamped now or `at`; return their ids."""
        stamp = (at or self.now()).isoformat()
        made: list[str] = []
        for row in rows:
            self.ids += 1
            made.append(f"{name[0]}{self.ids:06}")
            self.rows[name][made[-1]] = {
                "id": made[-1],
                "created_at": stamp,
                "changed_at": stamp,
                "deleted": False,
                "merged_into": None,
                "shown_at": self.now() + timedelta(seconds=shown_in),
                **row,
            }
        return made

    def edit(self, name: str, record_id: str, /, **values: object) -> None:
        """Change a record, and its stamp."""
        self.rows[name][record_id] |= {**values, "changed_at": self.now().isoformat()}

    # ------------------------------------------------------------ answers

    def listed(self, name: str, query: dict[str, str]) -> Row:
        """A page of records in the order of change time and id."""
        place = (query.get("changed_from", ""), query.get("after_id", ""))
        found = sorted(
            (row["changed_at"], row["id"], row)
            for row in self.rows[name].values()
            if row["shown_at"] <= self.now()
            and (row["changed_at"], row["id"]) > place
            and (not row["deleted"] or query.get("with_deleted") == "yes")
        )
        return {"records": [self.shown(name, row) for *_, row in found[: int(query["limit"])]]}

    def shown(self, name: str, row: Row) -> Row:
        """A record as the token's user sees it."""
        hidden = {one.partition(".")[2] for one in self.hidden if one.startswith(f"{name}.")}
        hidden.add("shown_at")
        return {key: value for key, value in row.items() if key not in hidden}

    def found(self, name: str, ids: Sequence[str]) -> Row:
        """Live records by id; a merged one is answered by its winner."""
        answers: list[Row] = []
        for asked in ids:
            row = self.rows[name].get(asked)
            while row is not None and row["merged_into"]:
                row = self.rows[name].get(row["merged_into"])
            if row is not None and not row["deleted"]:
                answers.append({**self.shown(name, row), "asked": asked})
        return {"records": answers}

    def written(self, name: str, updates: Sequence[Row]) -> Row:
        """Store values record by record; each has its own answer."""
        return {"results": [self._write(name, one["id"], one["values"]) for one in updates]}

    def _write(self, name: str, record_id: str, values: Row) -> Row:
        row = self.rows[name].get(record_id)
        if row is None or row["deleted"]:
            return {"id": record_id, "status": "gone"}
        if record_id in self.locked:
            self.locked.remove(record_id)
            return {"id": record_id, "status": "locked", "message": "Somebody edits it."}
        fault = "Not today." if record_id in self.refusing else self._fault(name, values)
        if fault:
            return {"id": record_id, "status": "refused", "code": "RULE", "message": fault}
        self.edit(name, record_id, **values)
        return {"id": record_id, "status": "ok"}

    def _fault(self, name: str, values: Row) -> str:
        for key, value in values.items():
            kind = self.fields[name].get(key)
            if kind is None or key in STANDARD:
                return f"There is no field {key} to write."
            if kind == "number" and value is not None:
                try:
                    Decimal(value)
                except (InvalidOperation, TypeError):
                    return f"{key} is a number."
        return ""

    def described(self, name: str) -> Row:
        """The fields of an object that the token's user sees."""
        return {
            "fields": [
                {"name": one, "label": one, "type": kind, "writable": one not in STANDARD}
                for one, kind in self.fields[name].items()
                if f"{name}.{one}" not in self.hidden
            ]
        }

    def next_fault(self, calls: str) -> str | None:
        """What befalls this call."""
        for fault in self.spoilt:
            if fault.calls in {calls, "all"} and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault.kind
        return None


_NO_ANSWERS = {
    "busy": (503, b"{}"),
    "html": (200, b"<html>Back soon</html>"),
    "empty": (200, b""),
    "strange": (200, b'{"message": "Try later."}'),
}


class Handler(BaseHTTPRequestHandler):
    """One call."""

    crm: TinyCrm

    def do_GET(self) -> None:
        """Read by address."""
        self._serve(None)

    def do_POST(self) -> None:
        """Read by ids, or write."""
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: Any) -> None:
        parts = urlsplit(self.path)
        name, _, verb = parts.path.strip("/").partition("/")
        is_write = verb == "values"
        is_read = name in FIELDS and not is_write
        fault = self.crm.next_fault("writes" if is_write else "reads" if is_read else "others")
        if fault == "silence":
            time.sleep(3)  # longer than the tests' patience
        elif fault in _NO_ANSWERS:
            self._answer(*_NO_ANSWERS[fault])
        else:
            status, found = self._answered(name, verb, body, dict(parse_qsl(parts.query)))
            content = json.dumps(found).encode()
            if fault != "lost":
                self._answer(status, content[:-1] if fault == "cut" else content)

    def _answered(self, name: str, verb: str, body: Any, query: dict[str, str]) -> tuple[int, Row]:
        crm = self.crm
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return 401, {"message": "Who are you?"}
        if crm.no_calls_until is not None and crm.now() < crm.no_calls_until:
            return 429, {"until": crm.no_calls_until.isoformat()}
        if name == "org":
            return 200, {"id": "tiny-1", "now": crm.now().isoformat()}
        if name == "fields" and verb in FIELDS:
            if body is not None:
                crm.fields[verb][body["name"]] = body["type"]
            return 200, crm.described(verb)
        if name in FIELDS and verb == "values":
            return 200, crm.written(name, body)
        if name in FIELDS and verb == "read":
            return 200, crm.found(name, body["ids"])
        if name in FIELDS and not verb:
            return 200, crm.listed(name, query)
        return 404, {"message": f"There is no {self.path}."}

    def _answer(self, status: int, content: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the caller has gone

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Nobody reads along."""


@contextmanager
def serving(crm: TinyCrm, port: int = 0) -> Iterator[TinyCrm]:
    """Serve on loopback, on a free port unless one is given."""
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"crm": crm}))
    crm.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield crm
    finally:
        server.shutdown()
        server.server_close()


def with_stages(crm: TinyCrm) -> TinyCrm:
    """The two stages that every tiny CRM begins with, and who sells."""
    for position, (name, is_won) in enumerate((("open", False), ("won", True))):
        crm.add("stages", [{}])
        row = crm.rows["stages"].popitem()[1]
        crm.rows["stages"][name] = row | {
            "id": name,
            "label": name,
            "position": position,
            "is_closed": is_won,
            "is_won": is_won,
        }
    crm.add("users", [{"name": "Rep 01", "email": "rep01@example.com"}])
    return crm


def sample() -> TinyCrm:
    """Ten accounts, each with an open and a won deal."""
    crm = with_stages(TinyCrm())
    accounts = crm.add("accounts", [{"name": f"Account {n:04}"} for n in range(1, 11)])
    day = crm.now().date().isoformat()
    for number, account in enumerate(accounts, start=1):
        deal = {"name": "Deal", "account": account, "amount": f"{number}00.50", "close_date": day}
        crm.add("deals", [deal | {"stage": "won"}, deal | {"stage": "open"}])
    return crm


def main() -> None:
    """Serve the sample until interrupted."""
    with serving(sample(), int(sys.argv[1]) if len(sys.argv) > 1 else 0) as crm:
        print(f"{crm.url}  token: {TOKEN}", flush=True)  # noqa: T201 - for who started it
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()

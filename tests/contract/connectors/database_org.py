"""A database with two tables in the words of the contract suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

from connectors.base import ConnectionSettings, StreamSettings, Tuning
from connectors.contract.org import COMPANY, QUICK, Ability, Org
from tests.contract.connectors.folder_org import ROWS

_TABLES = {
    "accounts": "id TEXT PRIMARY KEY, name TEXT, changed TIMESTAMP",
    "deals": (
        "id TEXT PRIMARY KEY, account TEXT, stage TEXT, amount NUMERIC(12, 2), close_date DATE,"
        " is_closed BOOLEAN, is_won BOOLEAN, changed TIMESTAMP"
    ),
}


class DatabaseOrg(Org):
    """What an application does with its tables."""

    name = "shop"
    account_object = "accounts"
    lacks: Mapping[Ability, str] = {
        **{ability: why for ability, why in ROWS.items() if ability is not Ability.LATE_COMMITS},
        Ability.LOGIN: "who may read a database file decides the system",
        Ability.ADDRESS: "a database has a URL of its own; test_sql shows one that is away",
        Ability.QUIET: "the overlap counts from the highest cursor seen, so its rows come again",
        Ability.DISCOVERY: "what can be asked for is whatever the query says",
        Ability.TOLD_ERASURES: "a query does not show what is gone",
    }

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self._late: list[tuple[datetime, str, datetime]] = []
        self._ids = 0
        for name, columns in _TABLES.items():
            self._run(f"CREATE TABLE {name} ({columns})")

    def settings(
        self,
        *,
        tuning: Tuning = QUICK,
        streams: Mapping[str, StreamSettings] | None = None,
        auth: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> ConnectionSettings:
        named = streams or {name: StreamSettings() for name in _TABLES}
        return ConnectionSettings(
            name=self.name,
            type="sql",
            auth=auth or {"url": self._engine.url.render_as_string(hide_password=False)},
            company=COMPANY,
            streams={
                name: replace(
                    one,
                    options={"query": f"SELECT * FROM {name}", "key": "id", "cursor": "changed"},  # noqa: S608 - of names above
                )
                for name, one in named.items()
            },
            base_url=base_url,
            tuning=tuning,
        )

    def advance(self, seconds: float) -> datetime:
        self._now += timedelta(seconds=seconds)
        for shown_at, name, stamp in [one for one in self._late if one[0] <= self._now]:
            self._insert("accounts", [{"name": name}], at=stamp)
            self._late.remove((shown_at, name, stamp))
        return self._now

    def add_accounts(self, names: Sequence[str]) -> list[str]:
        return self._insert("accounts", [{"name": name} for name in names])

    def import_accounts(self, names: Sequence[str]) -> list[str]:
        at = self._now - timedelta(hours=1)
        return self._insert("accounts", [{"name": name} for name in names], at=at)

    def add_account_committed_late(self, name: str, seconds: float) -> None:
        self._late.append((self._now + timedelta(seconds=seconds), name, self._now))

    def rename_account(self, account_id: str, name: str) -> None:
        self._run(
            "UPDATE accounts SET name = :name, changed = :at WHERE id = :id",
            {"name": name, "at": _text(self._now), "id": account_id},
        )

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal = {"account": account, "stage": "open", "amount": amount}
        return self._insert("deals", [deal | {"is_closed": False, "is_won": False}] * count)

    def win(self, deal_id: str) -> None:
        self._run(
            "UPDATE deals SET stage = 'won', close_date = '2026-03-05', is_closed = true,"
            " is_won = true, changed = :at WHERE id = :id",
            {"at": _text(self._now), "id": deal_id},
        )

    def delete_account(self, account_id: str) -> None:
        self._run("DELETE FROM accounts WHERE id = :id", {"id": account_id})

    def erase_account(self, account_id: str) -> None:
        self.delete_account(account_id)

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self._run(f"ALTER TABLE deals ADD COLUMN {name} TEXT")
        for deal_id, written in texts.items():
            self._run(
                f"UPDATE deals SET {name} = :text WHERE id = :id",  # noqa: S608 - of the suite
                {"text": written, "id": deal_id},
            )

    def _insert(
        self, name: str, rows: Sequence[Mapping[str, object]], *, at: datetime | None = None
    ) -> list[str]:
        ids = [f"{name[0]}{self._ids + number:06}" for number in range(len(rows))]
        self._ids += len(rows)
        stamp = _text(at or self._now)
        full = [{"id": one, "changed": stamp, **row} for one, row in zip(ids, rows, strict=True)]
        columns = list(full[0])
        self._run(
            f"INSERT INTO {name} ({', '.join(columns)})"  # noqa: S608 - of names above
            f" VALUES ({', '.join(f':{column}' for column in columns)})",
            full,
        )
        return ids

    def _run(
        self, statement: str, values: Sequence[Mapping[str, object]] | Mapping[str, object] = ()
    ) -> None:
        with self._engine.begin() as conn:
            conn.execute(text(statement), values or None)


def _text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S")

"""A folder of CSV files in the words of the contract suite."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from connectors.base import ConnectionSettings, StreamSettings, Tuning
from connectors.contract.org import COMPANY, QUICK, Ability, Org

_COLUMNS = {
    "accounts": ("id", "name"),
    "deals": ("id", "account", "stage", "amount", "close_date", "is_closed", "is_won"),
}
WHOLE = "files do not say what changed: all of them is read each time"
ROWS: Mapping[Ability, str] = {
    Ability.LATE_COMMITS: "rows are there when they are written",
    Ability.RETURNS: "a row that comes back is a row that is there",
    Ability.MERGES: "rows are not merged",
    Ability.STAGES: "tables have no list of stages",
    Ability.STAGE_HISTORY: "tables have no history of stages",
    Ability.LOOSE_STAGES: "tables have no list of stages",
    Ability.ORG_ID: "nobody knows whose rows these are",
    Ability.QUOTA: "nobody counts calls",
    Ability.WRITING: "a source, not a target",
    Ability.REFUSALS: "a source, not a target",
    Ability.LOCKS: "a source, not a target",
    Ability.FIELD_RIGHTS: "a column is there or it is not; test_files and test_sql take one away",
    Ability.FAULTS: "there are no answers to spoil",
    Ability.COUNTS: "to count rows is to read them",
    Ability.DOORBELL: "tables tell nobody that they changed",
}
"""What tables have not."""


class FolderOrg(Org):
    """What people do with files: edit, and save."""

    name = "books"
    account_object = "accounts"
    lacks: Mapping[Ability, str] = {
        **ROWS,
        Ability.LOGIN: "a folder asks nobody who they are",
        Ability.ADDRESS: "a folder is on this machine",
        Ability.CLOCK: "files carry no clock",
        Ability.IMPORTS: WHOLE,
        Ability.INCREMENTS: WHOLE,
        Ability.QUIET: WHOLE,
        Ability.IDS: WHOLE,
    }

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[str, dict[str, dict[str, str]]] = {name: {} for name in _COLUMNS}
        self._columns = {name: list(columns) for name, columns in _COLUMNS.items()}
        self._save()

    def settings(
        self,
        *,
        tuning: Tuning = QUICK,
        streams: Mapping[str, StreamSettings] | None = None,
        auth: Mapping[str, str] | None = None,
        base_url: str | None = None,
    ) -> ConnectionSettings:
        named = streams or {name: StreamSettings() for name in _COLUMNS}
        return ConnectionSettings(
            name=self.name,
            type="files",
            auth=auth or {},
            company=COMPANY,
            streams={name: replace(one, options={"key": '["id"]'}) for name, one in named.items()},
            base_url=base_url,
            tuning=tuning,
            options={"folder": str(self._folder)},
        )

    def add_accounts(self, names: Sequence[str]) -> list[str]:
        return self._add("accounts", [{"name": name} for name in names])

    def rename_account(self, account_id: str, name: str) -> None:
        self._rows["accounts"][account_id]["name"] = name
        self._save()

    def add_deals(
        self, count: int, *, amount: float = 100, account: str | None = None
    ) -> list[str]:
        deal = {"account": account or "", "stage": "open", "amount": str(amount)}
        return self._add("deals", [deal | {"is_closed": "no", "is_won": "no"}] * count)

    def win(self, deal_id: str) -> None:
        won = {"stage": "won", "close_date": "2026-03-05", "is_closed": "yes", "is_won": "yes"}
        self._rows["deals"][deal_id] |= won
        self._save()

    def delete_account(self, account_id: str) -> None:
        del self._rows["accounts"][account_id]
        self._save()

    def erase_account(self, account_id: str) -> None:
        self.delete_account(account_id)

    def add_text_to_deals(self, name: str, texts: Mapping[str, str]) -> None:
        self._columns["deals"].append(name)
        for deal_id, text in texts.items():
            self._rows["deals"][deal_id][name] = text
        self._save()

    def _add(self, name: str, rows: Sequence[dict[str, str]]) -> list[str]:
        held = self._rows[name]
        ids = [f"{name[0]}{len(held) + number}" for number in range(len(rows))]
        held |= {one: {"id": one, **row} for one, row in zip(ids, rows, strict=True)}
        self._save()
        return ids

    def _save(self) -> None:
        for name, rows in self._rows.items():
            with (self._folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, self._columns[name], restval="")
                table.writeheader()
                table.writerows(rows.values())

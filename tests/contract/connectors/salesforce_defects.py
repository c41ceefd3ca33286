"""The connector with one defect switched in: what users of other tools complain of.

A pytest plugin (``-p tests.contract.connectors.salesforce_defects``); the environment variable
KPISYNC_TEST_DEFECT names the defect. ``test_salesforce_defects.py`` sees each complaint's test
fail under its defect, so that none of them is green for want of looking.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import IO, Any, Final

import pytest

from connectors import fieldmap
from connectors.base import IdPage, Page, PushOutcome
from connectors.salesforce import (
    bulkread,
    check,
    client,
    csvrows,
    entries,
    faults,
    ingest,
    mapping,
    pull,
    push,
)
from connectors.salesforce import fields as live_fields
from connectors.salesforce.connector import SalesforceConnector
from connectors.salesforce.quota import CallBudget
from connectors.salesforce.soql import Selection
from connectors.salesforce.transport import BoundedAdapter
from worker import alerting, planning

VARIABLE: Final = "KPISYNC_TEST_DEFECT"

Patch = pytest.MonkeyPatch


def no_overlap(patch: Patch) -> None:
    patch.setattr(pull, "LOOKBACK", timedelta(0))


def ties_are_passed_over(patch: Patch) -> None:
    def tie(self: Selection, columns: Sequence[str], *, at: Any, after_id: str) -> str:
        del after_id
        return self.window(columns, low=None, high=None, after=at)

    patch.setattr(Selection, "tie", tie)


def nothing_is_counted(patch: Patch) -> None:
    patch.setattr(pull.StreamPull, "_ensure_nothing_was_lost", lambda *_: None)
    patch.setattr(SalesforceConnector, "count", lambda *_: None)


def a_query_given_up_is_an_empty_one(patch: Patch) -> None:
    asked = client.SalesforceClient.query

    def query(self: client.SalesforceClient, soql: str, **how: Any) -> client.QueryResult:
        try:
            return asked(self, soql, **how)
        except faults.QueryTooHeavy:
            return client.QueryResult([], 0, None, self.server_time())

    patch.setattr(client.SalesforceClient, "query", query)


def ids_are_those_of_the_first_load(patch: Patch) -> None:
    seen: list[Any] = []
    pages = SalesforceConnector._pages

    def noted(self: SalesforceConnector, *how: Any) -> Iterator[Page]:
        for page in pages(self, *how):
            seen.extend(record.ref for record in page.records)
            yield page

    patch.setattr(SalesforceConnector, "_pages", noted)
    patch.setattr(SalesforceConnector, "ids", lambda *_: iter([IdPage(refs=list(seen))]))


def formulas_are_read_once(patch: Patch) -> None:
    patch.setattr(pull.StreamPull, "_is_sweep_due", lambda *_: False)


def a_plan_says_nothing_of_formulas(patch: Patch) -> None:
    patch.setattr(planning, "volatile_notes", lambda *_: ())


def check_looks_at_no_field(patch: Patch) -> None:
    patch.setattr(check, "missing_fields", lambda _: ())


def hidden_columns_are_nulls(patch: Patch) -> None:
    compiled = fieldmap.compile_fieldmap

    def forgetful(request: Any) -> Any:
        found = compiled(request)
        found.unreadable = frozenset()
        return found

    patch.setattr(mapping, "compile_fieldmap", forgetful)


def request_lines_are_not_measured(patch: Patch) -> None:
    patch.setattr(client.SalesforceClient, "uri_bytes", lambda *_: 1)


def a_refused_token_is_the_end(patch: Patch) -> None:
    patch.setattr(client.SalesforceClient, "can_renew", False)


def nobody_looks_at_the_clock(patch: Patch) -> None:
    made = BoundedAdapter.__init__

    def patient(self: BoundedAdapter, *how: Any, **more: Any) -> None:
        made(self, *how, **more)
        self._timeout = (5.0, 60.0)

    patch.setattr(BoundedAdapter, "__init__", patient)


def calls_are_not_counted(patch: Patch) -> None:
    patch.setattr(CallBudget, "ensure_left", lambda _: None)


def csv_is_split_at_line_ends(patch: Patch) -> None:
    whole = csvrows.rows

    def split(file: IO[bytes], *how: Any) -> Iterator[Any]:
        header, *lines = file.read().split(b"\n")
        good = [line for line in lines if line.count(b'"') % 2 == 0]
        return whole(io.BytesIO(b"\n".join([header, *good])), *how)

    patch.setattr(bulkread, "rows", split)


def null_is_an_empty_cell(patch: Patch) -> None:
    patch.setattr(ingest, "NULL", "")


def locks_are_for_good(patch: Patch) -> None:
    told = faults.outcome_of

    def outcome(errors: Sequence[Mapping[str, object]]) -> tuple[PushOutcome, str, str]:
        _, code, words = told(errors)
        return PushOutcome.FAILED, code, words

    patch.setattr(push, "outcome_of", outcome)


def failures_have_no_reason(patch: Patch) -> None:
    patch.setattr(push, "outcome_of", lambda _: (PushOutcome.FAILED, "", ""))


def fields_seem_empty(patch: Patch) -> None:
    patch.setattr(live_fields.LiveReader, "_value", lambda *_: None)


def a_record_is_read_once_for_ever(patch: Patch) -> None:
    pages = SalesforceConnector._pages
    seen: set[Any] = set()

    def deduplicated(self: SalesforceConnector, *how: Any) -> Iterator[Page]:
        for page in pages(self, *how):
            fresh = [record for record in page.records if record.ref not in seen]
            seen.update(record.ref for record in fresh)
            yield replace(page, records=fresh)

    patch.setattr(SalesforceConnector, "_pages", deduplicated)


def nobody_asks_how_fresh_a_stream_is(patch: Patch) -> None:
    patch.setattr(alerting, "look", lambda _: 0)


def assignment_rules_run(patch: Patch) -> None:
    for module in (push, ingest, entries):
        patch.setattr(module, "WRITE_HEADERS", {})


DEFECTS: Final[Mapping[str, Callable[[Patch], None]]] = MappingProxyType(
    {
        defect.__name__: defect
        for defect in (
            no_overlap, ties_are_passed_over, nothing_is_counted,
            a_query_given_up_is_an_empty_one, ids_are_those_of_the_first_load,
            formulas_are_read_once, a_plan_says_nothing_of_formulas, check_looks_at_no_field,
            hidden_columns_are_nulls, request_lines_are_not_measured, a_refused_token_is_the_end,
            nobody_looks_at_the_clock, calls_are_not_counted, csv_is_split_at_line_ends,
            null_is_an_empty_cell, locks_are_for_good, failures_have_no_reason, fields_seem_empty,
            a_record_is_read_once_for_ever, nobody_asks_how_fresh_a_stream_is,
            assignment_rules_run,
        )
    }
)  # fmt: skip


@pytest.fixture(autouse=True, scope="session")
def defect() -> Iterator[None]:
    """The connector as the environment wants it: broken in one place."""
    with pytest.MonkeyPatch.context() as patch:
        name = os.environ.get(VARIABLE)
        if name:
            DEFECTS[name](patch)
        yield

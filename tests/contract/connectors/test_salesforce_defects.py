"""Each complaint's test fails when the connector has the defect that people complain of."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.connectors.salesforce_defects import DEFECTS, VARIABLE

HERE = Path(__file__).parent
READING = "test_salesforce_complaints_reading.py"
WRITING = "test_salesforce_writing_complaints.py"
CHECK = "test_salesforce_check.py"

COMPLAINTS = (
    ("1 late commits", "no_overlap", READING, "test_rows_committed_minutes_after"),
    ("2 one second", "ties_are_passed_over", READING, "test_more_rows_of_one_second"),
    ("3 lost rows", "nothing_is_counted", READING, "test_a_full_load_that_lost_rows"),
    ("4 timeouts", "a_query_given_up_is_an_empty_one", READING, "test_a_query_that_runs_too_long"),
    ("5 removed members", "ids_are_those_of_the_first_load", READING, "test_campaign_members"),
    ("6 stale formulas", "formulas_are_read_once", READING, "test_formulas_that_change"),
    ("6 unwarned", "a_plan_says_nothing_of_formulas", READING, "test_a_plan_warns_of_formulas"),
    ("7 silent nulls", "check_looks_at_no_field", CHECK, "test_a_column_that_would_be_silently"),
    ("7 emptied", "hidden_columns_are_nulls", READING, "test_a_column_whose_permission_is_lost"),
    ("8 new fields", "hidden_columns_are_nulls", READING, "test_a_new_field_is_there"),
    ("9 wide", "request_lines_are_not_measured", READING, "test_objects_with_700_fields"),
    ("10 renewal", "a_refused_token_is_the_end", READING, "test_a_token_renewed_while_paging"),
    ("11 hang", "nobody_looks_at_the_clock", READING, "test_a_server_that_never_answers"),
    ("12 reading", "calls_are_not_counted", READING, "test_reading_stops_at_its_share"),
    ("12 day", "calls_are_not_counted", WRITING, "test_the_orgs_daily_calls_are_not_eaten"),
    (
        "13 newlines",
        "csv_is_split_at_line_ends",
        "test_salesforce_reading_bulk.py",
        "test_rows_are_the_same_by_pages_and_by_job",
    ),
    (
        "14 null",
        "null_is_an_empty_cell",
        "test_salesforce_writing_jobs.py",
        "test_null_does_clear_a_field",
    ),
    ("15 locks", "locks_are_for_good", WRITING, "test_a_fifth_of_the_rows_locked"),
    ("15 reasons", "failures_have_no_reason", WRITING, "test_a_fifth_of_the_rows_locked"),
    ("loop", "fields_seem_empty", WRITING, "test_there_is_no_endless_update_loop"),
    ("second edit", "a_record_is_read_once_for_ever", READING, "test_a_second_edit_of_a_record"),
    ("stuck", "nobody_asks_how_fresh_a_stream_is", WRITING, "test_a_stream_that_stands_still"),
    (
        "auto-assign",
        "assignment_rules_run",
        "test_salesforce_writing.py",
        "test_a_write_does_not_hand_records_to_other_owners",
    ),
)
"""What people complain of, the defect, where its test stands, how the test begins."""


def run(module: str, beginning: str, defect: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    plugin = ["-p", "tests.contract.connectors.salesforce_defects"]
    return subprocess.run(
        [*command, *plugin, str(HERE / module), "-k", beginning],
        env={**os.environ, VARIABLE: defect},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "module", "beginning"),
    [pytest.param(*rest, id=complaint) for complaint, *rest in COMPLAINTS],
)
def test_the_complaints_test_sees_the_defect(defect: str, module: str, beginning: str) -> None:
    ended = run(module, beginning, defect)

    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    assert f"FAILED {HERE.relative_to(Path.cwd()) / module}::{beginning}" in ended.stdout
    assert " error" not in ended.stdout.splitlines()[-1]


def test_every_defect_is_somebodys_complaint() -> None:
    assert {defect for _, defect, _, _ in COMPLAINTS} == set(DEFECTS)

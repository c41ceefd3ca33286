"""The checks of the complaints can fail: each is run against a connector with that very defect.

A private copy of the sources gets one defect at a time, and the complaint's own check has to
turn red there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HUBSPOT = "connectors/hubspot"
READING = "test_hubspot_complaints_reading.py"
WRITING = "test_hubspot_push_complaints.py"
LOGIN = "test_hubspot_login.py"


@dataclass(frozen=True)
class Defect:
    """What a careless connector does."""

    check: str
    """The module and name of the test that has to notice."""
    module: str
    changes: tuple[tuple[str, str], ...]
    """Text of the module, and what stands in its place."""
    also: tuple[Defect, ...] = ()
    """The same carelessness in other modules, where one of them alone makes up for the other."""

    def __str__(self) -> str:
        return self.check.rpartition("::")[2].removeprefix("test_")


def defect(
    check: str, module: str, *changes: tuple[str, str], also: tuple[Defect, ...] = ()
) -> Defect:
    return Defect(check, f"{HUBSPOT}/{module}", changes, also)


MERGED = f"{WRITING}::test_writes_to_merged_records_are_lost"

DEFECTS = (
    # It follows a merge in neither of HubSpot's ways: not the ids that the winner names, and not
    # the links that went over to it.
    defect(
        MERGED,
        "reading.py",
        (
            "    if not joined:\n        return ()",
            "    if joined or not joined:\n        return ()",
        ),
        also=(
            defect(
                MERGED,
                "merges.py",
                ("        return list(found)", "        return []"),
            ),
        ),
    ),
    # It walks by `after`, as the search guide's examples do.
    defect(
        f"{READING}::test_more_than_10000_results_400",
        "walk.py",
        (", _beyond(last)]}]", "]}]"),
        (
            '"sorts": [{"propertyName": RECORD_ID',
            '"after": last, "sorts": [{"propertyName": RECORD_ID',
        ),
        ("last = found[-1] if found else last", "last = str(int(last) + len(found))"),
    ),
    # It begins each page at the last modified date, which all records share.
    defect(
        f"{READING}::test_endless_loop_when_a_bulk_job_stamps_12000_records_alike",
        "walk.py",
        (", _beyond(last)]}]", "]}]"),
        ("            return all(one < other", "            return True or all(one < other"),
        (
            "if is_last:\n                return",
            "if is_last or len(batch) > 12_000:\n                return",
        ),
    ),
    # Its next window begins where the last one ended.
    defect(
        f"{READING}::test_records_missing_after_an_incremental_run",
        "pull.py",
        ("min(done.until, self.plan.began) - self._overlap", "min(done.until, self.plan.began)"),
    ),
    # It waits for deletions to show as changes.
    defect(
        f"{READING}::test_deleted_deals_never_leave",
        "pull.py",
        (
            "if archive.is_due(position, self.plan.began, is_everything=self._is_everything):",
            "if False:",
        ),
    ),
    # It takes the first page of links for all.
    defect(
        f"{READING}::test_only_100_associations",
        "links.py",
        ("pending = _next_pages(answer)", "pending = []"),
    ),
    # It reads links in full pulls only.
    defect(
        f"{READING}::test_no_associations_in_incremental_mode",
        "pull.py",
        (
            "linked = self._linked(own)",
            "linked = self._linked(own) if batch.is_listed else {}",
        ),
    ),
    # It takes every error about links for "there are none".
    defect(
        f"{READING}::test_207_taken_as_a_failure_or_its_errors_as_none",
        "links.py",
        ("if entry.sub_category == NO_LINKS:", "if True:"),
        ("entry.category == NOT_FOUND or entry.sub_category == NO_LINKS", "True"),
    ),
    # It takes the errors about records without links for a failure.
    defect(
        f"{READING}::test_207_taken_as_a_failure_or_its_errors_as_none",
        "links.py",
        ("if entry.sub_category == NO_LINKS:", "if False:"),
    ),
    # It asks for all properties in the address.
    defect(
        f"{READING}::test_414_with_900_properties",
        "walk.py",
        ("_LONGEST_QUERY: Final = 6_000", "_LONGEST_QUERY: Final = 6_000_000"),
    ),
    # It keeps its place only when it has finished.
    defect(
        f"{WRITING}::test_429_storms_and_the_same_pages_come_again",
        "pull.py",
        (
            "            resume_at=self._with_unsettled(position).as_cursor(),\n            total",
            "            resume_at=None,\n            total",
        ),
    ),
    # It sends no trace ids, and a refused batch is refused for all.
    defect(
        f"{WRITING}::test_one_bad_record_sinks_a_hundred",
        "push.py",
        (', "objectWriteTraceId": _trace(record_id)}', "}"),
        (
            "self._refused(object_name, records, refusal)",
            "self._settle_all(object_name, records, _verdict([_whole(refusal)]))",
        ),
    ),
    # It leaves merged-away records where they are.
    defect(
        f"{READING}::test_merged_records_counted_twice",
        "mapping.py",
        ("            mapped.records += losers(record, row)\n", ""),
    ),
    # It takes a record that the answer leaves out for written.
    defect(
        "test_hubspot_push.py::"
        "test_a_record_that_is_gone_a_locked_one_and_a_merged_one_are_told_apart",
        "push.py",
        ('unknown = _Verdict(PushOutcome.UNKNOWN, "left_out", words)', "unknown = _WRITTEN"),
    ),
    # It asks for the history of a hundred records at once.
    defect(
        f"{READING}::test_property_history_400_above_50",
        "reading.py",
        ("limit = HISTORY_LIMIT if self.history else READ_LIMIT", "limit = READ_LIMIT"),
    ),
    # It takes the first 401 for the end.
    defect(
        f"{READING}::test_a_token_that_dies_during_a_long_run",
        "session.py",
        (
            "        except AuthenticationFailed:\n            # The token has died",
            "        except ZeroDivisionError:\n            # The token has died",
        ),
    ),
    defect(
        f"{LOGIN}::test_a_token_that_dies_during_a_long_run_is_renewed_once_and_the_run_goes_on",
        "session.py",
        (
            "        except AuthenticationFailed:\n            # The token has died",
            "        except ZeroDivisionError:\n            # The token has died",
        ),
    ),
    # It goes on asking with a token that was refused.
    defect(
        f"{WRITING}::test_a_dead_grant_is_asked_about_for_ever",
        "session.py",
        ("if time.monotonic() < self._refused_until:", "if False:"),
    ),
    # It names the id's property, which is none of the unique ones.
    defect(
        f"{WRITING}::test_unable_to_update_by_a_non_unique_property",
        "push.py",
        (
            '{"id": record_id, "properties": values,',
            '{"id": record_id, "idProperty": "hs_object_id", "properties": values,',
        ),
    ),
    # It looks at no target before it writes.
    defect(
        f"{WRITING}::test_a_read_only_missing_or_mistyped_target_shows_only_when_writing_fails",
        "fields.py",
        ("writable=not self.is_read_only", "writable=True"),
    ),
    # It writes a day as the instant of its midnight here.
    defect(
        f"{WRITING}::test_dates_a_day_off_and_not_midnight",
        "fields.py",
        (
            "return value.isoformat()\n        case _:",
            "return datetime.combine(value, time(8), UTC).isoformat()\n        case _:",
        ),
    ),
    # It takes the day of an instant in UTC.
    defect(
        f"{READING}::test_dates_a_day_off",
        "../values.py",
        ("return instant.astimezone(zone).date()", "return instant.date()"),
    ),
    # It takes whatever comes with 200 for the last page.
    defect(
        f"{READING}::test_html_with_200_and_cut_json_are_asked_for_again",
        "session.py",
        (
            "            text = body.strip()\n",
            '            return {"results": []}\n            text = body.strip()\n',
        ),
    ),
    # It calls without a deadline.
    defect(
        f"{READING}::test_a_hung_connection_is_given_up_in_time_and_the_pull_goes_on_later",
        "session.py",
        ('"_request_timeout": self._timeouts', '"_request_timeout": None'),
    ),
    # Its place is beyond what was committed.
    defect(
        f"{READING}::test_killed_at_any_page_a_second_run_ends_like_an_undisturbed_one",
        "walk.py",
        (
            "yield batch, replace(start, after=after)",
            "yield batch, replace(start, after=str(int(after) + 1000))",
        ),
    ),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sources and tests, to be broken at will."""
    folder = tmp_path_factory.mktemp("defects")
    for name in ("config", "connectors", "metrics", "sandbox", "store", "tests", "worker"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    yield folder
    shutil.rmtree(folder)


def outcome(folder: Path, check: str) -> tuple[int, str]:
    """How pytest ends there, and what it says."""
    arguments = ("-q", "-x", "-p", "no:cacheprovider", f"tests/contract/connectors/{check}")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return process.returncode, process.stdout


def do_harm(module: Path, changes: tuple[tuple[str, str], ...]) -> None:
    text = module.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, f"{module.name} has changed: {old}"
        text = text.replace(old, new)
    module.write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("one", DEFECTS, ids=str)
def test_the_check_of_a_complaint_fails_against_its_defect(copy: Path, one: Defect) -> None:
    harmed = {copy / part.module: part for part in (one, *one.also)}
    sound = {module: module.read_text(encoding="utf-8") for module in harmed}
    try:
        for module, part in harmed.items():
            do_harm(module, part.changes)
        code, said = outcome(copy, one.check)
    finally:
        for module, text in sound.items():
            module.write_text(text, encoding="utf-8")

    assert code == 1, said
    assert "ImportError" not in said
    assert "SyntaxError" not in said
    assert "NameError" not in said

"""What the fake portal's strictness rests on, and who calls it."""

from __future__ import annotations

import re
from pathlib import Path

import sandbox

_REFUSES = re.compile(r"\b(bad_request|not_found|HubSpotError)\(|status_code=4")
_SOURCE = re.compile(r"(?i)guide|changelog|openapi|documentation|reported|observed|recorded")
_CALLS = re.compile(r"requests\.(get|post|put|patch|delete|request|Session)\(|PoolManager\(|httpx")


def test_whatever_refuses_something_names_the_vendors_page() -> None:
    modules = sorted(Path(sandbox.__file__).parent.glob("hubspot*.py"))
    # What an admin endpoint refuses is the sandbox's own rule.
    strict = [
        module
        for module in modules
        if _REFUSES.search(module.read_text()) and module.name != "hubspot_admin.py"
    ]

    assert len(strict) > 10
    assert [one.name for one in strict if not _SOURCE.search(one.read_text())] == []


def test_hubspots_own_client_is_the_only_one_that_calls_the_portal() -> None:
    contract = Path(__file__).parents[1]
    modules = [
        *contract.glob("sandbox/test_hubspot*.py"),
        *contract.glob("connectors/*hubspot*.py"),
        contract / "sandbox" / "conftest.py",
    ]
    others = [one for one in modules if one.name != Path(__file__).name]

    assert len(others) > 20
    assert [one.name for one in others if _CALLS.search(one.read_text())] == []

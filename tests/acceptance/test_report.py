"""The one-file report: what it shows is what is published, and it carries no code of anybody."""

from __future__ import annotations

from html.parser import HTMLParser

from tests.acceptance.yaml_texts import two_crms
from tests.fixtures.cli import Cli
from tests.fixtures.sandboxes import Sandbox


class Page(HTMLParser):
    """Tags, and what stands in each heading's card."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))


def test_the_report_shows_the_published_totals_and_loads_nothing(
    kpisync: Cli, sandbox: Sandbox
) -> None:
    path = kpisync.configure(
        two_crms(sandbox).replace(
            "company: {name: Test Company", "company: {name: '<script>alert(1)</script>'"
        )
    )
    assert "<script>" in path.read_text(encoding="utf-8")
    account = sandbox.salesforce.create("Account", {"Name": "Account 1"})
    deal = {"Name": "Deal 1", "AccountId": account, "StageName": "Closed Won", "Amount": 1234}
    sandbox.salesforce.create("Opportunity", {**deal, "CloseDate": "2026-03-05"})
    kpisync("pull")
    kpisync("compute")

    kpisync("report", "-o", "report.html")

    text = (kpisync.folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert "<script" not in text
    assert "1,234.00" in page.words
    assert "won_value" in page.words
    assert "salesforce.deals" in page.words
    assert not [tag for tag, given in page.tags if {"src", "href", "onload"} & set(given)]


def test_a_report_that_cannot_be_written_says_why(kpisync: Cli, sandbox: Sandbox) -> None:
    kpisync.configure(two_crms(sandbox))
    kpisync("db", "upgrade")

    ended = kpisync("report", "-o", "no/such/folder.html", expect_exit=1)

    assert "cannot be written: No such file or directory" in ended.err

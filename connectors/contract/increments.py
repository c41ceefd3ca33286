"""Promises of increments: what changed, what is gone, and nothing else."""

from __future__ import annotations

from connectors.base import Connector
from connectors.contract.copies import Copy, stream_of
from connectors.contract.org import Ability, Org
from connectors.contract.part import Part, needs


class Increments(Part):
    """Pulls from a cursor or a date on."""

    def test_an_increment_sees_inserts_and_edits(self, org: Org, connector: Connector) -> None:
        edited, _ = org.add_accounts(["edited", "untouched"])
        copy = Copy()
        copy.pull(connector, "accounts")
        org.later(3600)
        org.add_accounts(["inserted"])
        org.rename_account(edited, "renamed")
        org.later(60)

        copy.pull(connector, "accounts")

        assert copy.names() == {"renamed", "inserted", "untouched"}

    @needs(Ability.DELETIONS)
    def test_an_increment_sees_deletions(self, org: Org, connector: Connector) -> None:
        deleted, _ = org.add_accounts(["deleted", "untouched"])
        copy = Copy()
        copy.pull(connector, "accounts")
        org.later(3600)
        org.delete_account(deleted)
        org.later(60)

        copy.follow(connector, "accounts")

        assert copy.names() == {"untouched"}

    @needs(Ability.DELETIONS, Ability.RETURNS, Ability.MERGES)
    def test_an_increment_sees_all_that_happens_at_once(
        self, org: Org, connector: Connector
    ) -> None:
        edited, deleted, returning, merged, winner, _ = org.add_accounts(
            ["edited", "deleted", "returning", "merged", "winner", "untouched"]
        )
        org.delete_account(returning)
        copy = Copy()
        copy.pull(connector, "accounts")
        org.later(3600)
        org.add_accounts(["inserted"])
        org.rename_account(edited, "renamed")
        org.delete_account(deleted)
        org.restore_account(returning)
        lives_on = org.merge_accounts(winner, [merged])
        org.later(60)

        copy.follow(connector, "accounts")

        assert copy.names() == {"renamed", "returning", "inserted", "winner", "untouched"}
        assert copy.records[merged].merged_into == f"{org.name}:{lives_on}"
        assert copy.records[merged].deleted

    @needs(Ability.ERASURES, Ability.TOLD_ERASURES, Ability.CLOCK)
    def test_a_record_deleted_for_good_is_told(self, org: Org, connector: Connector) -> None:
        kept, erased = org.add_accounts(["kept", "erased"])
        copy = Copy()
        copy.pull(connector, "accounts")
        org.advance(3600)
        org.erase_account(erased)
        org.advance(3600)

        copy.follow(connector, "accounts")

        assert set(copy.live) == {kept}

    @needs(Ability.ERASURES)
    def test_a_pull_of_everything_leaves_out_what_was_deleted_for_good(
        self, org: Org, connector: Connector
    ) -> None:
        kept, erased = org.add_accounts(["kept", "erased"])
        before, after = Copy(), Copy()
        before.pull(connector, "accounts")
        org.erase_account(erased)

        after.pull(connector, "accounts")

        assert set(before.live) == {kept, erased}
        assert set(after.live) == {kept}

    @needs(Ability.LATE_COMMITS, Ability.CLOCK)
    def test_a_row_stamped_earlier_but_committed_later_is_in_the_next_pull(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_accounts(["Account 0001"])
        org.advance(3600)
        org.add_account_committed_late("late", 300)
        org.advance(200)
        copy = Copy()
        copy.pull(connector, "accounts")
        before = copy.names()
        org.advance(340)

        copy.pull(connector, "accounts")

        assert before == {"Account 0001"}
        assert copy.names() == {"Account 0001", "late"}

    @needs(Ability.INCREMENTS, Ability.CLOCK)
    def test_a_pull_from_a_date_brings_what_changed_since(
        self, org: Org, connector: Connector
    ) -> None:
        org.add_accounts(["old"])
        day_after = org.advance(86_400)
        org.advance(86_400)
        org.add_accounts(["new"])
        org.advance(60)
        copy = Copy()

        for page in connector.pull(stream_of(connector, "accounts"), day_after):
            copy.take(page)

        assert copy.names() == {"new"}

    @needs(Ability.INCREMENTS, Ability.QUIET, Ability.CLOCK)
    def test_a_pull_without_changes_brings_no_news(self, org: Org, connector: Connector) -> None:
        org.add_accounts(["Account 0001"])
        org.advance(3600)
        copy = Copy()
        copy.pull(connector, "accounts")

        pages = list(connector.pull(stream_of(connector, "accounts"), copy.cursor))

        assert [page.records for page in pages] == [[]]
        assert pages[0].complete_until is not None

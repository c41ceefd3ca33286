"""The stages of opportunities: all of the org's, and those of each record type.

Pages: Object Reference, "OpportunityStage", "BusinessProcess", "RecordType".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sandbox.org import Record, StageSpec, Value
from sandbox.salesforce_sales_objects import FORECASTS

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

STANDARD_STAGES: Final = (
    StageSpec("Prospecting", is_closed=False, is_won=False, probability=0.1),
    StageSpec("Qualification", is_closed=False, is_won=False, probability=0.1),
    StageSpec("Needs Analysis", is_closed=False, is_won=False, probability=0.2),
    StageSpec("Value Proposition", is_closed=False, is_won=False, probability=0.5),
    StageSpec("Id. Decision Makers", is_closed=False, is_won=False, probability=0.6),
    StageSpec("Perception Analysis", is_closed=False, is_won=False, probability=0.7),
    StageSpec("Proposal/Price Quote", is_closed=False, is_won=False, probability=0.75),
    StageSpec("Negotiation/Review", is_closed=False, is_won=False, probability=0.9),
    StageSpec("Closed Won", is_closed=True, is_won=True, probability=1.0),
    StageSpec("Closed Lost", is_closed=True, is_won=False, probability=0.0),
)


class Stages:
    """The opportunity stages of one org."""

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self._by_name: tuple[int, dict[Value, Record]] = (-1, {})
        self.of_record_type: dict[str, tuple[str, ...]] = {}
        """Stage names by record type id, where a sales process narrows them."""

    def replace(self, stages: Sequence[StageSpec]) -> None:
        """Set the org's stages, in order."""
        for record in list(self._org.all("OpportunityStage")):
            self._org.erase("OpportunityStage", record.id)
        for place, stage in enumerate(stages, start=1):
            self.add(stage, place)

    def add(self, stage: StageSpec, place: int | None = None) -> None:
        """Add a stage, after all others unless `place` says where."""
        category = "Closed" if stage.is_won else "Omitted" if stage.is_closed else "Pipeline"
        self._org.create(
            "OpportunityStage",
            {
                "MasterLabel": stage.name,
                "ApiName": stage.name,
                "IsActive": True,
                "SortOrder": place or len(self._org.rows("OpportunityStage")) + 1,
                "IsClosed": stage.is_closed,
                "IsWon": stage.is_won,
                "ForecastCategory": category,
                "ForecastCategoryName": FORECASTS[category],
                "DefaultProbability": stage.probability * 100,
            },
        )

    def find(self, name: Value) -> Record | None:
        """The stage of this API name."""
        return self._named().get(name)

    def first(self) -> Value:
        """The API name of the first stage."""
        stages = sorted(self._named().values(), key=_sort_order)
        return stages[0]["ApiName"] if stages else None

    def active(self) -> list[str]:
        """The API names that describe lists."""
        return [str(s["ApiName"]) for s in self._org.all("OpportunityStage") if s["IsActive"]]

    def _named(self) -> dict[Value, Record]:
        revision = self._org.indexes.revision("OpportunityStage")
        if self._by_name[0] != revision:
            by_name: dict[Value, Record] = {}
            for record in self._org.all("OpportunityStage"):
                by_name.setdefault(record["ApiName"], record)
            self._by_name = (revision, by_name)
        return self._by_name[1]


def _sort_order(stage: Record) -> int:
    order = stage["SortOrder"]
    return order if isinstance(order, int) else 0

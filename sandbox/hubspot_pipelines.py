"""Pipelines and their stages ("Pipelines" guide): of deals, tickets and orders."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

DEFAULT_PIPELINES: Mapping[str, str] = {
    "deals": "default",
    "tickets": "0",
    "orders": "14a2e10e-5471-408a-906e-c51f3b04369e",
}
"""The id of the pipeline every portal begins with."""

PLAIN_STAGE = re.compile(r"[a-z0-9_]+")


@dataclass(slots=True)
class Stage:
    """One stage of a pipeline; of deals, won is closed with probability 1."""

    id: str
    label: str
    is_closed: bool
    probability: float
    is_archived: bool = False


@dataclass(slots=True)
class Pipeline:
    """One pipeline of one object type."""

    id: str
    label: str
    stages: list[Stage]
    created_at: datetime = datetime(2020, 1, 1, tzinfo=UTC)

    def stage(self, stage_id: str) -> Stage | None:
        """The stage, archived or not; None where nobody knows it."""
        return next((stage for stage in self.stages if stage.id == stage_id), None)


_FIRST_STAGES: Mapping[str, tuple[str, Sequence[tuple[str, str, float | None]]]] = {
    "deals": (
        "Sales Pipeline",
        (
            ("appointmentscheduled", "Appointment Scheduled", 0.2),
            ("qualifiedtobuy", "Qualified To Buy", 0.4),
            ("presentationscheduled", "Presentation Scheduled", 0.6),
            ("decisionmakerboughtin", "Decision Maker Bought-In", 0.8),
            ("contractsent", "Contract Sent", 0.9),
            ("closedwon", "Closed Won", 1.0),
            ("closedlost", "Closed Lost", 0.0),
        ),
    ),
    "tickets": (
        "Support Pipeline",
        (
            ("1", "New", None),
            ("2", "Waiting on contact", None),
            ("3", "Waiting on us", None),
            ("4", "Closed", None),
        ),
    ),
    "orders": (
        "Order Pipeline",
        (
            ("4b27b500-f031-4927-9811-68a0b525cbae", "Open", None),
            ("937ea84d-0a4f-4dcf-9028-3f9c2aafbf03", "Processed", None),
            ("aa99e8d0-c1d5-4071-b915-d240bbb1aed9", "Shipped", None),
            ("3725360f-519b-4b18-a593-494d60a29c9f", "Delivered", None),
            ("3c85a297-e9ce-400b-b42e-9f16853d69d6", "Cancelled", None),
        ),
    ),
}
"""Object type -> label of its first pipeline, and its stages: id, label, probability of deals."""

_CLOSING = frozenset({"Closed Won", "Closed Lost", "Closed", "Delivered", "Cancelled"})


def first_pipelines() -> Iterator[tuple[str, Pipeline]]:
    """What a new portal has, by object type."""
    for object_type, (label, stages) in _FIRST_STAGES.items():
        yield (
            object_type,
            Pipeline(
                DEFAULT_PIPELINES[object_type],
                label,
                [Stage(one, name, name in _CLOSING, odds or 0) for one, name, odds in stages],
            ),
        )


def stage_property(event: str, stage_id: str) -> str:
    """The name of a property about a stage, such as `hs_v2_date_entered_closedwon`.

    Ids that are no plain word are put into one, with a number behind it: the name has to be
    taken from the properties API.
    """
    if PLAIN_STAGE.fullmatch(stage_id):
        return f"hs_v2_{event}_{stage_id}"
    word = re.sub(r"[^a-z0-9]+", "_", stage_id.lower()).strip("_")
    return f"hs_v2_{event}_{word}_{zlib.crc32(stage_id.encode()) % 1_000_000_000}"

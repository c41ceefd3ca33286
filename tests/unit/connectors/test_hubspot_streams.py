"""Which streams there are, and which pipelines of them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from connectors.base import ConnectionSettings, StreamSettings
from connectors.errors import MisconfiguredConnection
from connectors.hubspot.mapping import Pipelines
from connectors.hubspot.streams import chosen_pipelines, streams_of
from store.canonical import Company

PIPELINES = Pipelines({}, {"1": "Web shop", "2": "Partners"})


def settings(*pipelines: str) -> ConnectionSettings:
    return ConnectionSettings(
        name="web",
        type="hubspot",
        auth={},
        company=Company(ZoneInfo("UTC"), "USD"),
        streams={"deals": StreamSettings(pipelines=pipelines)},
    )


def choose(*wanted: str) -> frozenset[str]:
    configured = settings(*wanted)
    deals = next(one for one in streams_of(configured) if one.name == "deals")
    return chosen_pipelines(configured, deals, PIPELINES)


def test_owners_stages_and_lines_are_implied() -> None:
    names = [stream.name for stream in streams_of(settings())]

    assert names == ["owners", "stages", "deals", "deal_lines"]


def test_pipelines_are_chosen_by_label_or_id() -> None:
    assert choose("Web shop", "2") == {"1", "2"}
    assert choose() == frozenset()


def test_a_pipeline_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(MisconfiguredConnection, match=r'no pipeline "Shop".*"Web shop"'):
        choose("Shop")

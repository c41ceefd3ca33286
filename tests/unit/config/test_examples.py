"""The examples load, validate against the schema, and the format covers the whole product."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

import config
from config.errors import ConfigurationError
from config.loader import load, load_with_warnings
from config.models import Config
from config.schema import json_schema

EXAMPLES = sorted((Path(config.__file__).parent / "examples").glob("*.yaml"))
ENV = {
    "SF_CLIENT_ID": "id",
    "SF_CLIENT_SECRET": "secret",
    "HUBSPOT_KEY": "key",
    "SF_USERNAME": "user",
    "SF_PRIVATE_KEY": "pem",
    "OPS_URL": "mailto://ops",
    "KPISYNC_DATABASE_URL": "postgresql://kpisync@db/kpisync",
}
WHOLE_FORMAT = Path(__file__).parent / "whole_format.yaml"


def _plain(path: Path) -> object:
    with path.open(encoding="utf-8") as file:
        return YAML(typ="safe", pure=True).load(file)


def test_there_are_examples() -> None:
    assert {"quickstart.yaml", "two-crms.yaml"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_loads_without_a_warning(path: Path) -> None:
    if "${file:/run/secrets/" in path.read_text(encoding="utf-8"):
        # These secrets are mounted where only a container has them.
        with pytest.raises(ConfigurationError) as caught:
            load(path, ENV)
        missing = re.compile(r'There is no file "/run/secrets/\w+"\.')
        assert all(missing.fullmatch(found.message) for found in caught.value.problems)
        return

    loaded, warnings = load_with_warnings(path, ENV)

    assert warnings == ()
    assert loaded.connections
    assert loaded.writebacks


@pytest.mark.parametrize("path", [*EXAMPLES, WHOLE_FORMAT], ids=lambda path: path.name)
def test_an_example_validates_against_the_schema(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())

    assert [error.message for error in validator.iter_errors(_plain(path))] == []


def test_the_schema_is_a_valid_schema_that_refuses_unknown_names() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {"connections": {"hs": {"type": "hubspot", "auth": {"flow": "token", "token": "x"}}}}

    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "kpi": {}})
    assert not validator.is_valid({**good, "company": {"currencyy": "EUR"}})
    assert not validator.is_valid({**good, "kpis": {"settings": {"Win Rate": {}}}})
    assert validator.is_valid({**good, "advanced": {"canary": "${CANARY}"}})
    assert not validator.is_valid({**good, "advanced": {"canary": "many"}})


def test_every_key_says_what_it_is_for() -> None:
    models = [Config]
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config.__base__):
                models.append(field.annotation)


def test_the_whole_format_is_supported() -> None:
    config = load(WHOLE_FORMAT, {"A_SECRET": "x"})

    assert config.alerts.rules
    assert config.targets["win_rate"][0].owner is None
    assert config.kpis.custom["enterprise_win_rate"].format == "percent"

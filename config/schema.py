"""The configuration's JSON Schema, for editors."""

from __future__ import annotations

from typing import Final, TypeAlias

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from config.models import Config

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Json]:
    """The JSON Schema (draft 2020-12) of a whole configuration file.

    It knows the keys and forms of the format; what only the loader can know (variables, links
    between parts) it does not check.
    """
    schema: Json = Config.model_json_schema(
        by_alias=True, mode="validation", schema_generator=_EditorSchema
    )
    tidied = _tidied(schema)
    if not isinstance(tidied, dict):
        raise TypeError("a model's schema is an object")
    return {"$schema": DRAFT, **tidied, "title": "kpisync configuration"}


class _EditorSchema(GenerateJsonSchema):
    """Defaults that JSON cannot say (durations, schedules) are left out in silence."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 - pydantic's own way
        "skipped-choice",
        "non-serializable-default",
    }


def _tidied(schema: Json) -> Json:
    """Names of a wrong form are refused, and defaults stand only where YAML would say them so."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "default" and (value is None or isinstance(value, dict)))
    }
    if "patternProperties" in tidied:
        tidied.setdefault("additionalProperties", False)
    return tidied

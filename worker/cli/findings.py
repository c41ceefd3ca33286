"""What `check` found, for people, for programs and for code scanners."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from config import errors as config_errors
from connectors import base

Format = Literal["text", "json", "sarif"]

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


@dataclass(frozen=True, slots=True)
class FoundProblem:
    """One fault or warning, of the file or of what a connection leads to."""

    rule: Literal["configuration", "connection"]
    connection: str | None
    place: str
    """A key path in the file, or an object and field in the CRM."""
    message: str
    remedy: str
    is_error: bool
    at: config_errors.Place | None = None
    """Where in the file; None for what only shows online."""


def of_file(
    problems: Iterable[config_errors.Problem], *, are_errors: bool = True
) -> list[FoundProblem]:
    """Problems of the configuration."""
    return [
        FoundProblem(
            rule="configuration",
            connection=None,
            place=problem.path,
            message=problem.message,
            remedy=problem.hint,
            is_error=are_errors,
            at=problem.place,
        )
        for problem in problems
    ]


def of_connection(
    name: str, at: config_errors.Place, problems: Iterable[base.Problem]
) -> list[FoundProblem]:
    """Problems that showed online; in the file they belong to the connection as a whole."""
    return [
        FoundProblem(
            rule="connection",
            connection=name,
            place=problem.place,
            message=problem.message,
            remedy=problem.remedy,
            is_error=problem.is_error,
            at=at,
        )
        for problem in problems
    ]


def as_document(found: Iterable[FoundProblem]) -> dict[str, object]:
    """The shape of ``check --json``."""
    listed = list(found)
    return {
        "ok": not any(one.is_error for one in listed),
        "problems": [
            {
                "connection": one.connection,
                "place": one.place,
                "message": one.message,
                "remedy": one.remedy,
                "error": one.is_error,
                "file": one.at.file if one.at else None,
                "line": one.at.line if one.at else None,
                "column": one.at.column if one.at else None,
            }
            for one in listed
        ],
    }


def as_sarif(found: Iterable[FoundProblem]) -> dict[str, object]:
    """SARIF 2.1.0 (OASIS), one result per problem: what code scanners show beside the line."""
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "kpisync",
                        "version": version("kpisync"),
                        "rules": [
                            {
                                "id": "configuration",
                                "shortDescription": {"text": "The configuration file"},
                            },
                            {
                                "id": "connection",
                                "shortDescription": {"text": "What a connection leads to"},
                            },
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(one) for one in found],
            }
        ],
    }


def _result(one: FoundProblem) -> dict[str, object]:
    words = [f"{one.place}:" if one.place else "", one.message, one.remedy]
    result: dict[str, object] = {
        "ruleId": one.rule,
        "level": "error" if one.is_error else "warning",
        "message": {"text": " ".join(word for word in words if word)},
    }
    if one.at is not None:
        result["locations"] = [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": one.at.file},
                    "region": {"startLine": one.at.line, "startColumn": one.at.column},
                }
            }
        ]
    return result

"""CRMs behind proxies: somebody acts in the midst of a pull, or an answer holds what hurts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from tests.fixtures.recorder import Recorder, recording
from tests.fixtures.sandboxes import Sandbox


@contextmanager
def behind_proxies(sandbox: Sandbox) -> Iterator[tuple[Sandbox, dict[str, Recorder]]]:
    """The sandbox as seen through a proxy for each CRM, and the proxies."""
    with recording(sandbox.salesforce.url) as salesforce, recording(sandbox.hubspot.url) as hubspot:
        seen = replace(
            sandbox,
            salesforce=replace(sandbox.salesforce, url=salesforce.url),
            hubspot=replace(sandbox.hubspot, url=hubspot.url),
        )
        yield seen, {"salesforce": salesforce, "hubspot": hubspot}


def hurting(wounds: Mapping[str, Mapping[str, str]]) -> Callable[[bytes], bytes]:
    """What puts raw values into the wounded records of an answer.

    Args:
        wounds: Record id -> field -> raw JSON, as no client library could send it.
    """

    def rewrite(answer: bytes) -> bytes:
        marks: dict[bytes, bytes] = {}
        document, rows = rows_of(answer)
        for row in rows:
            fields = row.get("properties", row)
            for field, raw in wounds.get(str(row.get("Id", row.get("id"))), {}).items():
                if isinstance(fields, dict) and field in fields:
                    mark = f"@{len(marks)}@"
                    fields[field] = mark
                    marks[f'"{mark}"'.encode()] = raw.encode()
        if not marks:
            return answer
        text = json.dumps(document).encode()
        for mark_, raw_ in marks.items():
            text = text.replace(mark_, raw_)
        return text

    return rewrite


def rows_of(answer: bytes) -> tuple[object, list[dict[str, object]]]:
    """The document of an answer, and the records in it; none where it holds no page."""
    try:
        document = json.loads(answer)
    except ValueError:
        return None, []
    rows = document.get("records", document.get("results")) if isinstance(document, dict) else None
    return document, [row for row in rows or () if isinstance(row, dict)]

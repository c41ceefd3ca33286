"""Makes very many records in seconds, for rehearsals of size."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from datetime import datetime

from sandbox.org import Fields, Record, State, Value
from sandbox.salesforce_org import SalesforceOrg


def generate(
    org: SalesforceOrg,
    object_name: str,
    *,
    count: int,
    fields: Fields,
    vary: Mapping[str, Sequence[Value]],
    since: datetime,
    until: datetime,
) -> str:
    """Create records without history rows or other effects, and return the first one's id.

    Args:
        org: The org.
        object_name: The object.
        count: How many.
        fields: What all of them hold.
        vary: Per field the values that the records take in turn; ``#`` in a text becomes the
            record's number.
        since: The stamp of the first record.
        until: The stamp of the last one; the others lie evenly between.
    """
    spec = org.known_spec(object_name)
    choices = [dict(_template(org, object_name, {**fields, **one})) for one in _turns(vary)]
    numbered = [
        [name for name, value in each.items() if isinstance(value, str) and "#" in value]
        for each in choices
    ]
    step = (until - since) / max(1, count - 1)
    first = ""

    def records() -> list[Record]:
        nonlocal first
        made: list[Record] = []
        for number in range(count):
            turn = number % len(choices)
            values = dict(choices[turn])
            for name in numbered[turn]:
                values[name] = str(values[name]).replace("#", str(number + 1))
            stamped = org.stamp(since + step * number)
            record_id = org.new_id(spec.name)
            first = first or record_id
            state = State(values, stamped, "people")
            made.append(Record(spec.name, record_id, stamped, "people", state))
        return made

    org.put_many(spec.name, records())
    # They live as long as the process: the collector need not walk them again and again.
    gc.freeze()
    return first


def _turns(vary: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    longest = max((len(values) for values in vary.values()), default=1)
    return [
        {name: values[turn % len(values)] for name, values in vary.items()}
        for turn in range(longest)
    ]


def _template(org: SalesforceOrg, object_name: str, values: Fields) -> Fields:
    return {k: v for k, v in org.prepared(object_name, values, None).items() if v is not None}

"""Formula and roll-up fields: worked out whenever they are read, and no stamp tells of a change.

Pages: Help, "Formula Field Limits and Restrictions" and "Roll-Up Summary Field"; Object
Reference, "calculated" fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Final

from sandbox.org import Record, Value
from sandbox.salesforce_columns import parent_finder, shown
from sandbox.salesforce_fields import Compute, ObjectSpec

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg


def path_formula(org: SalesforceOrg, spec: ObjectSpec, path: str) -> Compute:
    """A parent's field, for example ``Account.Region__c``.

    Raises:
        ValueError: the path leads nowhere.
    """
    relationship, _, rest = path.partition(".")
    if not rest:
        own = spec.get(path)
        if own is None:
            raise ValueError(f"{spec.name} has no field {path}")
        show = shown(org, own)
        return lambda record: _plain(show(record))
    link = spec.relation(relationship)
    parent = org.object_spec(link.reference_to[0]) if link else None
    if link is None or parent is None:
        raise ValueError(f"{spec.name} has no relationship {relationship}")
    find, inner = parent_finder(org, link), path_formula(org, parent, rest)

    def compute(record: Record) -> Value:
        found = find(record)
        return None if found is None else inner(found)

    return compute


def age_formula(org: SalesforceOrg, spec: ObjectSpec, field: str) -> Compute:
    """Whole days from a date field to TODAY()."""
    each = spec.get(field)
    if each is None:
        raise ValueError(f"{spec.name} has no field {field}")
    show = shown(org, each)

    def compute(record: Record) -> Value:
        day = show(record)
        if not isinstance(day, str):
            return None
        return float((org.now().date() - date.fromisoformat(day[:10])).days)

    return compute


def short_id_formula(org: SalesforceOrg, spec: ObjectSpec, field: str) -> Compute:
    """An id as formulas see it: of 15 characters (Object Reference, "ID Field Type")."""
    each = spec.get(field)
    if each is None or not each.is_id:
        raise ValueError(f"{spec.name} has no id field {field}")
    show = shown(org, each)
    return lambda record: text[:15] if isinstance(text := show(record), str) else None


def roll_up(org: SalesforceOrg, *, child: str, link: str, function: str, of: str | None) -> Compute:
    """A count, sum, min or max over a record's live children.

    Args:
        org: The org.
        child: The children's object.
        link: The children's reference field.
        function: ``count``, ``sum``, ``min`` or ``max``.
        of: The field added up; not for ``count``.

    Raises:
        ValueError: for a function or field there is none of.
    """
    spec = org.known_spec(child)
    each = spec.get(of) if of else None
    if function not in _FUNCTIONS or (each is None and function != "count"):
        raise ValueError(f"no roll-up {function} of {child}.{of}")
    name, reference = each.name if each else "", spec.get(link)
    if reference is None:
        raise ValueError(f"{child} has no field {link}")

    def compute(record: Record) -> Value:
        rows = [r for r in org.children(spec.name, reference.name, record.id) if not r.is_deleted]
        if function == "count":
            return float(len(rows))
        values = [float(v) for row in rows if isinstance(v := row[name], int | float)]
        return _FUNCTIONS[function](values) if values else 0.0

    return compute


_FUNCTIONS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "count": lambda values: float(len(values)),
    "sum": sum,
    "min": min,
    "max": max,
}


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else None

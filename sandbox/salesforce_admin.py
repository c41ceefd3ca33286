"""The admin endpoints that only Salesforce has; documented in docs/sandbox-salesforce.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.admin import PREFIX, Json, list_of, mapping_of, post, text_of
from sandbox.faults import FOREVER
from sandbox.org import Org, StageSpec, Value
from sandbox.salesforce_convert import convert_lead
from sandbox.salesforce_fields import NUMBER_TYPES, TEXT_TYPES, Compute, FieldSpec, ObjectSpec
from sandbox.salesforce_formulas import age_formula, path_formula, roll_up, short_id_formula
from sandbox.salesforce_generate import generate
from sandbox.salesforce_guards import OPERATORS, Guards, ValidationRule, Workflow
from sandbox.salesforce_ids import long_id
from sandbox.salesforce_jobs import ABORTED, FAILED, WAITING, Ending, Job
from sandbox.salesforce_keys import new_pair
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_refusals import Refused
from sandbox.salesforce_schema import custom_object

FIELD_TYPES: Final = TEXT_TYPES | NUMBER_TYPES | {"boolean", "date", "datetime", "reference"}
CUSTOM_PREFIX: Final = "a{:02d}"
"""Custom objects get key prefixes from a00 on (Object Reference, "ID Field Type")."""
DEFAULT_DIGITS: Final = (18, 2)


def routes(org: SalesforceOrg) -> list[Route]:
    """What people and the vendor do in an org, and what a rehearsal asks for."""

    async def jobs(request: Request) -> Response:
        return await _jobs(request, org)

    return [
        *(post(org, name, _for(org, verb)) for name, verb in VERBS.items()),
        Route(f"{PREFIX}jobs", jobs, methods=["GET"]),
    ]


def _for(
    org: SalesforceOrg, verb: Callable[[SalesforceOrg, Json], Json]
) -> Callable[[Org, Json], Json]:
    return lambda _, body: verb(org, body)


def refuse_unknown(body: Json, *known: str) -> None:
    """Refuse misspelt keys.

    Raises:
        ValueError: there is a key that the verb does not know.
    """
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; there is {', '.join(known)}")


# Schema


def add_object(org: SalesforceOrg, body: Json) -> Json:
    """``name`` (``…__c``), ``label``, ``fields``: a list as `field` takes them."""
    refuse_unknown(body, "name", "label", "fields")
    name = text_of(body, "name")
    if not name.endswith("__c"):
        raise ValueError(f"a custom object's name ends in __c: {name}__c, not {name}")
    prefix = CUSTOM_PREFIX.format(org.next_number("object") - 1)
    org.add_object(custom_object(name, str(body.get("label", name)), prefix))
    for each in list_of(body, "fields"):
        field(org, {"object": name, **mapping_of(each)})
    return {"prefix": prefix}


def field(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``name``, ``type`` in describe's words, and what describe says of it.

    ``label``, ``length``, ``precision``, ``scale``, ``choices``, ``to`` (a reference's object or
    list of them), ``long`` (a text area that cannot be filtered), ``external_id``, ``unique``,
    ``required``, ``formula``: ``{"path": "Account.Region__c"}``, ``{"days_since": "CloseDate"}``,
    ``{"short_id": "AccountId"}`` or ``{"roll_up": {"object", "link", "function", "of"}}``.
    """
    refuse_unknown(
        body, "object", "name", "type", "label", "length", "precision", "scale", "choices", "to",
        "long", "external_id", "unique", "required", "formula",
    )  # fmt: skip
    spec = org.known_spec(text_of(body, "object"))
    name, kind = text_of(body, "name"), text_of(body, "type")
    if kind not in FIELD_TYPES:
        raise ValueError(f"no field type {kind!r}; there is {', '.join(sorted(FIELD_TYPES))}")
    compute = _formula(org, spec, mapping_of(body["formula"])) if "formula" in body else None
    targets = body.get("to", [])
    to = tuple(str(t) for t in targets) if isinstance(targets, list) else (str(targets),)
    is_number = kind in NUMBER_TYPES
    each = FieldSpec(
        name,
        kind,
        str(body.get("label", name)),
        length=_whole(body.get("length", 255 if kind in TEXT_TYPES else 0)),
        precision=_whole(body.get("precision", DEFAULT_DIGITS[0] if is_number else 0)),
        scale=_whole(body.get("scale", DEFAULT_DIGITS[1] if is_number and kind != "int" else 0)),
        nillable=kind != "boolean" and not body.get("required", False),
        createable=compute is None,
        updateable=compute is None,
        filterable=not body.get("long", False),
        custom=True,
        calculated=compute is not None,
        external_id=bool(body.get("external_id", False)),
        unique=bool(body.get("unique", False)),
        reference_to=tuple(org.known_spec(each).name for each in to),
        relationship=f"{name.removesuffix('__c')}__r" if to else None,
        choices=tuple(str(choice) for choice in list_of(body, "choices")),
        default=False if kind == "boolean" else None,
        compute=compute,
    )
    org.add_custom(spec.name, each)
    return {}


def _formula(org: SalesforceOrg, spec: ObjectSpec, formula: Mapping[str, object]) -> Compute:
    refuse_unknown(formula, "path", "days_since", "short_id", "roll_up")
    if "short_id" in formula:
        return short_id_formula(org, spec, str(formula["short_id"]))
    if "path" in formula:
        return path_formula(org, spec, str(formula["path"]))
    if "days_since" in formula:
        return age_formula(org, spec, str(formula["days_since"]))
    of = mapping_of(formula["roll_up"])
    refuse_unknown(of, "object", "link", "function", "of")
    added_up = str(of["of"]) if "of" in of else None
    return roll_up(
        org,
        child=text_of(of, "object"),
        link=text_of(of, "link"),
        function=text_of(of, "function"),
        of=added_up,
    )


def drop_field(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``name``: delete a custom field; its values are gone."""
    refuse_unknown(body, "object", "name")
    spec = org.known_spec(text_of(body, "object"))
    org.erase("CustomField", f"{spec.name}.{text_of(body, 'name')}")
    return {}


def record_type(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``name``, ``developer_name``, ``stages`` (names), ``is_person``; answers ``id``.

    With ``stages`` a sales process is made whose stages are these; they must be in the org.
    """
    refuse_unknown(body, "object", "name", "developer_name", "stages", "is_person")
    spec, name = org.known_spec(text_of(body, "object")), text_of(body, "name")
    values: dict[str, Value] = {"Name": name, "SobjectType": spec.name, "IsActive": True}
    values["DeveloperName"] = str(body.get("developer_name", name.replace(" ", "_")))
    if body.get("is_person"):
        values["IsPersonType"] = True
    stages = [str(stage) for stage in list_of(body, "stages")]
    unknown = [stage for stage in stages if org.stages.find(stage) is None]
    if unknown:
        raise ValueError(f"the org has no stage {', '.join(unknown)}; add_stage adds one")
    if stages:
        process: dict[str, Value] = {"Name": name, "TableEnumOrId": spec.name}
        values["BusinessProcessId"] = org.create("BusinessProcess", {**process, "IsActive": True})
    made = org.create("RecordType", values)
    if stages:
        org.stages.of_record_type[made] = tuple(stages)
    return {"id": made}


def add_stage(org: SalesforceOrg, body: Json) -> Json:
    """``name``, ``is_closed``, ``is_won``, ``probability`` (0..1): one more stage, at the end."""
    refuse_unknown(body, "name", "is_closed", "is_won", "probability")
    org.stages.add(
        StageSpec(
            text_of(body, "name"),
            bool(body.get("is_closed", False)),
            bool(body.get("is_won", False)),
            float(str(body.get("probability", 0))),
        )
    )
    return {}


# Records


def convert(org: SalesforceOrg, body: Json) -> Json:
    """``lead``, and ``account``, ``contact`` (ids), ``opportunity`` (a name) as wanted."""
    refuse_unknown(body, "lead", "account", "contact", "opportunity")
    return convert_lead(
        org,
        text_of(body, "lead"),
        account_id=_optional(body, "account"),
        contact_id=_optional(body, "contact"),
        opportunity_name=_optional(body, "opportunity"),
    )


def touch(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``id`` or ``ids``: SystemModstamp moves and nothing else does."""
    refuse_unknown(body, "object", "id", "ids")
    for record_id in _ids(body):
        org.touch(text_of(body, "object"), record_id)
    return {}


def put_silently(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``id`` or ``ids``, ``fields``: values change and no stamp moves."""
    refuse_unknown(body, "object", "id", "ids", "fields")
    for record_id in _ids(body):
        values = {k: _value(v) for k, v in mapping_of(body.get("fields", {})).items()}
        org.put_silently(text_of(body, "object"), record_id, values)
    return {}


def make_many(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``count``, ``fields``, ``vary`` (field → values in turn), ``days``.

    The stamps lie evenly in the ``days`` (365) before now; 0 gives all of them one stamp. ``#``
    in a text becomes the record's number. No history rows are written. Answers ``first``, an id.
    """
    refuse_unknown(body, "object", "count", "fields", "vary", "days")
    until = org.now() - timedelta(minutes=1)
    days = float(str(body.get("days", 365)))
    first = generate(
        org,
        text_of(body, "object"),
        count=_whole(body.get("count", 0)),
        fields={k: _value(v) for k, v in mapping_of(body.get("fields", {})).items()},
        vary={
            name: [_value(each) for each in list_of({name: values}, name)]
            for name, values in mapping_of(body.get("vary", {})).items()
        },
        since=until - timedelta(days=days),
        until=until,
    )
    return {"first": first}


# Rules, refusals, other tools


def validation_rule(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``field``, ``operator``, ``value``, ``message``; refuses what compares so."""
    refuse_unknown(body, "object", "field", "operator", "value", "message")
    spec = org.known_spec(text_of(body, "object"))
    each, operator = spec.get(text_of(body, "field")), text_of(body, "operator")
    if each is None or operator not in OPERATORS:
        raise ValueError(f"a field of {spec.name}, and one of {', '.join(OPERATORS)}")
    message = str(body.get("message", "The record breaks a validation rule."))
    value = _value(body.get("value"))
    org.guards.rules.append(ValidationRule(spec.name, each.name, operator, value, message))
    return {}


def duplicate_rule(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``field``: equal values are duplicates; ``blocks`` also with allowSave."""
    refuse_unknown(body, "object", "field", "blocks")
    spec = org.known_spec(text_of(body, "object"))
    each = spec.get(text_of(body, "field"))
    if each is None:
        raise ValueError(f"{spec.name} has no such field")
    org.guards.duplicate_fields[spec.name] = (each.name, bool(body.get("blocks", False)))
    return {}


def workflow(org: SalesforceOrg, body: Json) -> Json:
    """``object``, ``set`` (fields): every save through the API is followed by this one."""
    refuse_unknown(body, "object", "set")
    spec = org.known_spec(text_of(body, "object"))
    values = {k: _value(v) for k, v in mapping_of(body.get("set", {})).items()}
    org.guards.workflows.append(Workflow(spec.name, values))
    return {}


def no_rules(org: SalesforceOrg, body: Json) -> Json:
    """Switch all rules, workflows, lock shares and refusals off."""
    refuse_unknown(body)
    org.guards = Guards()
    org.refusals.clear()
    return {}


def refuse(org: SalesforceOrg, body: Json) -> Json:
    """``name`` (see `salesforce_refusals.KNOWN`), ``times`` (1), ``after`` (0), ``path``."""
    refuse_unknown(body, "name", "times", "after", "path")
    times = body.get("times", 1)
    org.refusals.add(
        Refused(
            text_of(body, "name"),
            times=FOREVER if times == "forever" else _whole(times),
            after=_whole(body.get("after", 0)),
            path=str(body.get("path", "")),
        )
    )
    return {}


def private_key(org: SalesforceOrg, body: Json) -> Json:
    """Make a key pair for the JWT flow, install its public half; answers ``private_key``."""
    refuse_unknown(body)
    private, org.sessions.public_key = new_pair()
    return {"private_key": private}


# Bulk jobs


def job(org: SalesforceOrg, body: Json) -> Json:
    """``id`` (``last``: the newest), ``rows`` (do so many and stay), or ``state`` to bring it to.

    Answers the job's ``id``, ``state``, ``processed`` and ``failed``.
    """
    refuse_unknown(body, "id", "rows", "state", "message")
    found = _job(org, text_of(body, "id"))
    jobs = org.jobs
    if "rows" in body:
        jobs.work_on(found, _whole(body["rows"]))
    wanted = str(body.get("state", ""))
    if wanted in {FAILED, ABORTED}:
        found.error = str(body.get("message", "The job was ended by the sandbox"))
        jobs.enter(found, wanted)
    elif wanted:
        while found.state in WAITING and found.state != wanted:
            jobs.move(found)
        if found.state != wanted:
            raise ValueError(f"the job is in state {found.state}")
    return job_facts(found)


def fail_jobs(org: SalesforceOrg, body: Json) -> Json:
    """``kind`` (query, ingest), ``times`` (1), ``message``, ``after_rows`` (0), ``state``."""
    refuse_unknown(body, "kind", "times", "message", "after_rows", "state")
    ending = Ending(
        kind=str(body.get("kind", "")),
        state=str(body.get("state", FAILED)),
        message=str(body.get("message", "InternalServerError : the job failed")),
        after_rows=_whole(body.get("after_rows", 0)),
    )
    if ending.kind not in {"", "query", "ingest"} or ending.state not in {FAILED, ABORTED}:
        raise ValueError("kind is query or ingest, state Failed or Aborted")
    org.jobs.plan(ending, _whole(body.get("times", 1)))
    return {}


def job_facts(found: Job) -> dict[str, object]:
    """What the admin sees of a job."""
    return {
        "id": found.id,
        "kind": found.kind,
        "operation": found.operation,
        "object": found.object,
        "query": found.query,
        "state": found.state,
        "processed": found.work.processed,
        "failed": found.work.failed,
        "error": found.error,
        "uploaded": len(found.content) if found.content is not None else None,
    }


def _job(org: SalesforceOrg, job_id: str) -> Job:
    found = list(org.jobs.all())
    if job_id != "last":
        found = [each for each in found if each.id == long_id(job_id)]
    if not found:
        raise ValueError(f"there is no job {job_id}")
    return found[-1]


async def _jobs(request: Request, org: SalesforceOrg) -> Response:
    del request
    return JSONResponse([job_facts(each) for each in org.jobs.all()])


VERBS: Final[Mapping[str, Callable[[SalesforceOrg, Json], Json]]] = {
    "add_object": add_object,
    "field": field,
    "drop_field": drop_field,
    "record_type": record_type,
    "add_stage": add_stage,
    "convert_lead": convert,
    "touch": touch,
    "put_silently": put_silently,
    "generate": make_many,
    "validation_rule": validation_rule,
    "duplicate_rule": duplicate_rule,
    "workflow": workflow,
    "no_rules": no_rules,
    "refuse": refuse,
    "private_key": private_key,
    "job": job,
    "fail_jobs": fail_jobs,
}


def _ids(body: Json) -> list[str]:
    return [str(i) for i in list_of(body, "ids")] if "ids" in body else [text_of(body, "id")]


def _optional(body: Json, name: str) -> str | None:
    return text_of(body, name) if name in body else None


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")  # noqa: TRY004 - a bad request
    return value


def _value(value: object) -> Value:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{value!r} is no plain JSON value")

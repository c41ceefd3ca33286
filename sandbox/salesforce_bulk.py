"""The resources of Bulk API 2.0: creating, asking, closing and deleting jobs, and their results.

Page: Bulk API 2.0 and Bulk API Developer Guide, "Query Jobs", "Ingest Jobs", "Bulk API 2.0 Limits
and Allocations".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from sandbox.salesforce_bulk_ingest import IngestWork
from sandbox.salesforce_bulk_query import QueryWork, csv_rows, locator_of, start_of
from sandbox.salesforce_http import ApiError, Call, json_response, no_content
from sandbox.salesforce_jobs import (
    ABORTED,
    DELIMITERS,
    ENDED,
    IN_PROGRESS,
    JOB_COMPLETE,
    LINE_ENDINGS,
    OPEN,
    UPLOAD_COMPLETE,
    Job,
    JobKind,
    stamped,
)
from sandbox.salesforce_values import stamp_text
from sandbox.salesforce_write import external_id
from sandbox.soql import SoqlError, parse

CSV: Final = "text/csv"
MEGABYTE: Final = 1_000_000
_QUERY_KEYS: Final = frozenset(
    {"operation", "query", "contentType", "columnDelimiter", "lineEnding"}
)
_INGEST_KEYS: Final = frozenset(
    {
        "object", "operation", "externalIdFieldName", "contentType", "columnDelimiter",
        "lineEnding", "assignmentRuleId",
    }
)  # fmt: skip
_INGEST_OPERATIONS: Final = ("insert", "update", "upsert", "delete")


# Query jobs


def create_query(call: Call) -> Response:
    """POST jobs/query."""
    body = _job_body(call, _QUERY_KEYS)
    operation = body.get("operation")
    if operation not in {"query", "queryAll"}:
        raise _refused("INVALIDJOB", f"Unsupported operation for a query job: {operation}")
    jobs = call.org.jobs
    if jobs.query_jobs >= jobs.query_jobs_max:
        message = f"exceeded {jobs.query_jobs_max} query jobs in 24 hours"
        raise _refused("EXCEEDED_QUOTA", message)
    text = str(body.get("query", ""))
    try:
        query = parse(text)
        everything = operation == "queryAll"
        work = QueryWork(call.org, query, version=call.version, everything=everything)
    except SoqlError as error:
        raise ApiError(400, error.code, error.message) from None
    job = _job(call, "query", body, work.object_name, UPLOAD_COMPLETE)
    job.work, job.query = work, text
    jobs.query_jobs += 1
    jobs.add(job)
    return json_response(stamped(job, stamp_text, call.org.api_user_id))


def list_queries(call: Call) -> Response:
    """GET jobs/query."""
    return _listed(call, "query")


def read_query(call: Call, job_id: str) -> Response:
    """GET jobs/query/id."""
    job = _known(call, "query", job_id)
    call.org.jobs.look(job)
    return json_response(_query_facts(call, job))


def change_query(call: Call, job_id: str) -> Response:
    """PATCH jobs/query/id: abort."""
    job = _known(call, "query", job_id)
    _abort(call, job, _state_in(call))
    return json_response(_query_facts(call, job))


def delete_query(call: Call, job_id: str) -> Response:
    """DELETE jobs/query/id."""
    return _delete(call, _known(call, "query", job_id))


def query_results(call: Call, job_id: str) -> Response:
    """GET jobs/query/id/results?maxRecords=&locator=: one part, each with a header row."""
    job = _known(call, "query", job_id)
    if job.state != JOB_COMPLETE or not isinstance(job.work, QueryWork):
        raise _refused("INVALIDJOBSTATE", f"The job is in state {job.state}: no results")
    jobs, rows = call.org.jobs, job.work.processed
    given = call.query.get("locator", "")
    start = start_of(given, job.id) if given else 0
    if start is None or (start >= rows and start > 0):
        raise _refused("INVALIDLOCATOR", f"The locator {given} is not valid for this job")
    end = min(rows, start + min(_max_records(call), jobs.part_rows))
    content = job.work.part(
        start,
        end,
        delimiter=DELIMITERS[job.delimiter],
        line_ending=LINE_ENDINGS[job.line_ending],
    )
    jobs.result_bytes += len(content)
    if rows == 0 and jobs.empty_body:
        content = b""
    headers = {
        "Sforce-NumberOfRecords": str(end - start),
        # The text "null" ends; any other locator is opaque.
        "Sforce-Locator": locator_of(job.id, end) if end < rows else "null",
    }
    return Response(content, 200, headers=headers, media_type=CSV)


def _max_records(call: Call) -> int:
    text = call.query.get("maxRecords")
    if text is None:
        return call.org.jobs.part_rows
    if not text.isdigit() or int(text) < 1:
        raise _refused("INVALIDPARAMETER", f"maxRecords must be a positive number, not {text}")
    return int(text)


def _query_facts(call: Call, job: Job) -> dict[str, object]:
    facts = stamped(job, stamp_text, call.org.api_user_id) | {
        "jobType": "V2Query",
        "numberRecordsProcessed": job.work.processed,
        "retries": 0,
        "totalProcessingTime": 100 if job.state in ENDED else 0,
        "isPkChunkingSupported": True,
    }
    return facts | ({"errorMessage": job.error} if job.error else {})


# Ingest jobs


def create_ingest(call: Call) -> Response:
    """POST jobs/ingest."""
    body = _job_body(call, _INGEST_KEYS)
    operation, name = str(body.get("operation", "")), str(body.get("object", ""))
    if operation not in _INGEST_OPERATIONS:
        raise _refused("INVALIDJOB", f"Unsupported operation for an ingest job: {operation}")
    spec = call.org.visible_spec(name)
    if spec is None:
        raise _refused("INVALIDENTITY", f"Unable to find object: {name}")
    key = None
    if operation == "upsert":
        wanted = body.get("externalIdFieldName")
        if not isinstance(wanted, str):
            raise _refused("INVALIDJOB", "externalIdFieldName is required for upsert")
        key = external_id(spec, wanted)
    elif "externalIdFieldName" in body:
        raise _refused("INVALIDJOB", "externalIdFieldName is only for upsert")
    if call.org.jobs.batches >= call.org.jobs.batches_max:
        raise _refused("EXCEEDED_QUOTA", "exceeded the batches of 24 hours")
    work = IngestWork(call.org, spec, operation, key)
    job = _job(call, "ingest", body, spec.name, OPEN)
    job.work, job.external_id = work, key.name if key else ""
    job.assigns = "assignmentRuleId" in body
    work.job = job
    call.org.jobs.add(job)
    content_url = f"{call.base.lstrip('/')}/jobs/ingest/{job.id}/batches"
    facts = stamped(job, stamp_text, call.org.api_user_id)
    return json_response({**facts, "contentUrl": content_url, **_key_fact(job)})


def list_ingests(call: Call) -> Response:
    """GET jobs/ingest."""
    return _listed(call, "ingest")


def read_ingest(call: Call, job_id: str) -> Response:
    """GET jobs/ingest/id."""
    job = _known(call, "ingest", job_id)
    call.org.jobs.look(job)
    return json_response(_ingest_facts(call, job))


def upload(call: Call, job_id: str) -> Response:
    """PUT jobs/ingest/id/batches: all the data, once."""
    job = _known(call, "ingest", job_id)
    kind = call.headers.get("content-type", "").split(";")[0].strip()
    if kind != CSV:
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"Unsupported media type '{kind}'")
    if job.state != OPEN:
        raise _refused("INVALIDJOBSTATE", f"The job is in state {job.state}, not Open")
    if job.content is not None:
        message = (
            f"Found multiple contents for job: <{job.id}>, please 'Close' / 'Abort' / 'Delete' the "
            "current Job then create a new Job and make sure you only do 'PUT' once on a given Job."
        )
        raise _refused("CLIENTINPUTERROR", message)
    if len(call.body) > call.org.jobs.upload_bytes:
        message = f"The data exceeds {call.org.jobs.upload_bytes} bytes"
        raise ApiError(413, "REQUEST_ENTITY_TOO_LARGE", message)
    job.content = call.body
    return Response(status_code=201)


def change_ingest(call: Call, job_id: str) -> Response:
    """PATCH jobs/ingest/id: all is uploaded, or abort."""
    job, state = _known(call, "ingest", job_id), _state_in(call)
    if state == UPLOAD_COMPLETE:
        if job.state != OPEN:
            raise _refused("INVALIDJOBSTATE", f"The job is in state {job.state}, not Open")
        call.org.jobs.enter(job, UPLOAD_COMPLETE)
    else:
        _abort(call, job, state)
    return json_response(_ingest_facts(call, job))


def delete_ingest(call: Call, job_id: str) -> Response:
    """DELETE jobs/ingest/id."""
    return _delete(call, _known(call, "ingest", job_id))


def successful_results(call: Call, job_id: str) -> Response:
    """GET jobs/ingest/id/successfulResults."""
    job, work = _ended(call, job_id)
    return _result_rows(call, job, ["sf__Id", "sf__Created", *work.header], work.succeeded)


def failed_results(call: Call, job_id: str) -> Response:
    """GET jobs/ingest/id/failedResults."""
    job, work = _ended(call, job_id)
    return _result_rows(call, job, ["sf__Id", "sf__Error", *work.header], work.refused)


def unprocessed_records(call: Call, job_id: str) -> Response:
    """GET jobs/ingest/id/unprocessedrecords; the library spells it with a capital R."""
    job, work = _ended(call, job_id)
    return _result_rows(call, job, work.header, work.unprocessed())


def _result_rows(
    call: Call, job: Job, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> Response:
    shuffled = list(rows)
    call.org.random.shuffle(shuffled)  # "the order of records is not guaranteed"
    content = csv_rows(
        header,
        shuffled,
        delimiter=DELIMITERS[job.delimiter],
        line_ending=LINE_ENDINGS[job.line_ending],
    )
    return Response(content, 200, media_type=CSV)


def _ended(call: Call, job_id: str) -> tuple[Job, IngestWork]:
    job = _known(call, "ingest", job_id)
    if job.state not in ENDED or not isinstance(job.work, IngestWork):
        raise _refused("INVALIDJOBSTATE", f"The job is in state {job.state}: no results")
    return job, job.work


def _ingest_facts(call: Call, job: Job) -> dict[str, object]:
    facts = stamped(job, stamp_text, call.org.api_user_id) | {
        "jobType": "V2Ingest",
        "contentUrl": f"{call.base.lstrip('/')}/jobs/ingest/{job.id}/batches",
        "retries": 0,
        "totalProcessingTime": 100 if job.state in ENDED else 0,
        "apiActiveProcessingTime": 50 if job.state in ENDED else 0,
        "apexProcessingTime": 0,
        "numberRecordsProcessed": job.work.processed,
        "numberRecordsFailed": job.work.failed,
    }
    return facts | _key_fact(job) | ({"errorMessage": job.error} if job.error else {})


def _key_fact(job: Job) -> dict[str, object]:
    return {"externalIdFieldName": job.external_id} if job.external_id else {}


# Both


def _job_body(call: Call, known: frozenset[str]) -> Mapping[str, object]:
    if not call.org.jobs.is_enabled:
        raise ApiError(400, "FEATURENOTENABLED", "Bulk API is not enabled")
    body = call.json_object()
    for name in body:
        if name not in known:
            message = f'Unrecognized field "{name}" at [line:1, column:1]'
            raise ApiError(400, "JSON_PARSER_ERROR", message)
    for name, choices in (
        ("contentType", ("CSV",)),
        ("columnDelimiter", tuple(DELIMITERS)),
        ("lineEnding", tuple(LINE_ENDINGS)),
    ):
        if body.get(name, choices[0]) not in choices:
            raise _refused("INVALIDJOB", f"{name} must be one of {', '.join(choices)}")
    return body


def _job(
    call: Call, kind: JobKind, body: Mapping[str, object], object_name: str, state: str
) -> Job:
    return Job(
        id=call.org.jobs.new_id(),
        kind=kind,
        operation=str(body["operation"]),
        object=object_name,
        api_version=call.version,
        line_ending=str(body.get("lineEnding", "LF")),
        delimiter=str(body.get("columnDelimiter", "COMMA")),
        created_at=call.org.now(),
        state=state,
    )


def _known(call: Call, kind: JobKind, job_id: str) -> Job:
    job = call.org.jobs.find(kind, job_id)
    if job is None:
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
    return job


def _state_in(call: Call) -> str:
    body = call.json_object()
    state = body.get("state")
    if set(body) != {"state"} or not isinstance(state, str):
        raise _refused("INVALIDJOB", "only the state of a job can be changed")
    return state


def _abort(call: Call, job: Job, state: str) -> None:
    if state != ABORTED:
        raise _refused("INVALIDJOBSTATE", f"a job cannot be put into state {state}")
    if job.state in ENDED:
        raise _refused("INVALIDJOBSTATE", f"The job is in state {job.state} already")
    call.org.jobs.enter(job, ABORTED)


def _delete(call: Call, job: Job) -> Response:
    # "Delete a Job": it must have been uploaded or have ended, and not be in progress.
    if job.state in {OPEN, IN_PROGRESS}:
        raise _refused("INVALIDJOBSTATE", f"a job in state {job.state} cannot be deleted")
    call.org.jobs.remove(job)
    return no_content()


def _listed(call: Call, kind: JobKind) -> Response:
    facts = _query_facts if kind == "query" else _ingest_facts
    records = [facts(call, job) for job in call.org.jobs.all(kind)]
    return json_response({"done": True, "nextRecordsUrl": None, "records": records})


def _refused(code: str, message: str) -> ApiError:
    return ApiError(400, code, message)

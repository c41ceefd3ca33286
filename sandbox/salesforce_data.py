"""Reading through the API: queries and their pages, describe, records, deletions, limits.

Pages: REST API Developer Guide, "Query", "QueryAll", "Query Options Header", "sObject Describe",
"sObject Rows", "sObject Get Deleted", "sObject Get Updated", "Limits", "Record Count".
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.responses import Response

from sandbox.salesforce_columns import attributes, shown
from sandbox.salesforce_fields import FieldSpec, ObjectSpec
from sandbox.salesforce_http import ApiError, Call, json_response, not_found
from sandbox.salesforce_ids import is_id, long_id
from sandbox.salesforce_org import SalesforceOrg
from sandbox.salesforce_query import Found, Reader
from sandbox.salesforce_refusals import KNOWN
from sandbox.salesforce_sessions import Locator
from sandbox.salesforce_values import stamp_text
from sandbox.soql import SoqlError, parse

LARGEST_PAGE: Final = 2000  # REST guide, "Query Options Header"
SMALLEST_PAGE: Final = 200
CELLS_A_PAGE: Final = 40_000
"""A page of many columns holds fewer rows than asked for; the vendor does not say how many. Up to
twenty, the columns of an ordinary query, pages are full."""
LONG_TEXTS_THAT_CAP: Final = 2  # SOQL Reference, "Change the Batch Size": then 200 rows a page
DELETED_DAYS: Final = 15  # REST guide, "sObject Get Deleted"
UPDATED_DAYS: Final = 30  # REST guide, "sObject Get Updated"
SHORTEST_SPAN: Final = timedelta(minutes=1)
_BATCH: Final = re.compile(r"batchSize\s*=\s*(\d+)", re.IGNORECASE)


# Queries


def query(call: Call) -> Response:
    """GET query?q=: live rows."""
    return _query(call, include_deleted=False)


def query_all(call: Call) -> Response:
    """GET queryAll?q=: deleted and merged rows too."""
    return _query(call, include_deleted=True)


def tooling_query(call: Call) -> Response:
    """GET tooling/query?q=: the org's setup."""
    return _query(call, include_deleted=False, tooling=True)


def _query(call: Call, *, include_deleted: bool, tooling: bool = False) -> Response:
    text = call.query.get("q")
    if text is None:
        raise ApiError(400, "MALFORMED_QUERY", "A query string has to be specified")
    try:
        parsed = parse(text)
        reader = Reader(call.org, parsed, version=call.version, tooling=tooling)
    except SoqlError as error:
        raise ApiError(400, error.code, error.message) from None
    limit = call.org.query_timeout_rows
    if limit is not None and not parsed.is_count and reader.fits_more_than(limit):
        raise ApiError(*KNOWN["QUERY_TIMEOUT"])
    found = reader.run(include_deleted=include_deleted)
    if parsed.is_count:
        return json_response({"totalSize": len(found.rows), "done": True, "records": []})
    _refuse_several_full_names(found)
    locator = Locator(call.token, call.org.now(), found.rows, found.show, _page_rows(call, found))
    return _page(call, locator, start=0, name=None)


def _refuse_several_full_names(found: Found) -> None:
    # Tooling API, "CustomField": FullName and Metadata only where one row is asked for.
    if len(found.rows) > 1 and any(column.names[-1] == "FullName" for column in found.columns):
        message = (
            "When retrieving results with Metadata or FullName fields, the query qualifications "
            f"must specify no more than one row for retrieval. Result size: {len(found.rows)}"
        )
        raise ApiError(400, "MALFORMED_QUERY", message)


def _page_rows(call: Call, found: Found) -> int:
    """How many rows a page holds: the batch size is a hint, wide rows give fewer."""
    asked = _BATCH.search(call.headers.get("sforce-query-options", ""))
    wanted = int(asked.group(1)) if asked else LARGEST_PAGE
    rows = min(max(wanted, SMALLEST_PAGE), LARGEST_PAGE)
    long_texts = sum(1 for column in found.columns if column.spec.is_long_text)
    if long_texts >= LONG_TEXTS_THAT_CAP:
        rows = SMALLEST_PAGE
    fitting = max(SMALLEST_PAGE, CELLS_A_PAGE // max(1, len(found.columns)))
    return max(1, min(rows, fitting, call.org.page_rows))


def _page(call: Call, locator: Locator, *, start: int, name: str | None) -> Response:
    total = len(locator.rows)
    end = min(start + locator.page_rows, total)
    answer: dict[str, object] = {"totalSize": total, "done": end >= total}
    if end < total:
        kept = name or call.org.sessions.open_locator(locator)
        answer["nextRecordsUrl"] = f"{call.base}/query/{kept}-{end}"
    answer["records"] = [locator.show(record) for record in locator.rows[start:end]]
    return json_response(answer)


def next_page(call: Call, place: str) -> Response:
    """GET query/LOCATOR-OFFSET: the next page of an open query of this session."""
    name, _, start = place.rpartition("-")
    locator = call.org.sessions.locator(name, call.token)
    if locator is None or not start.isdigit() or int(start) > len(locator.rows):
        raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    return _page(call, locator, start=int(start), name=name)


# Objects and records


def list_objects(call: Call) -> Response:
    """GET sobjects."""
    org = call.org
    listed = [spec.listed() for spec in org.schema.values() if org.access.sees_object(spec)]
    return json_response({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": listed})


def object_basics(call: Call, object_name: str) -> Response:
    """GET sobjects/X."""
    spec = _spec(call.org, object_name)
    return json_response({"objectDescribe": spec.listed(), "recentItems": []})


def describe(call: Call, object_name: str) -> Response:
    """GET sobjects/X/describe: only the fields that the run-time user may read."""
    org, spec = call.org, _spec(call.org, object_name)
    fields = [
        each.described(updateable=org.access.may_edit(spec, each), choices=_choices(org, each))
        for each in spec.fields.values()
        if org.access.may_read(spec, each)
    ]
    return json_response(spec.described(fields) | {"recordTypeInfos": _record_types(org, spec)})


MASTER_RECORD_TYPE: Final = "012000000000000AAA"
"""The record type of records that have none."""


def _record_types(org: SalesforceOrg, spec: ObjectSpec) -> list[dict[str, object]]:
    own = [
        (r["Name"], r["DeveloperName"], r.id)
        for r in org.all("RecordType")
        if r["SobjectType"] == spec.name and r["IsActive"]
    ]
    return [
        {
            "name": name,
            "developerName": developer_name,
            "recordTypeId": record_type_id,
            "active": True,
            "available": True,
            "defaultRecordTypeMapping": False,
            "master": record_type_id == MASTER_RECORD_TYPE,
        }
        for name, developer_name, record_type_id in [*own, ("Master", "Master", MASTER_RECORD_TYPE)]
    ]


def picklist_values(call: Call, object_name: str, record_type_id: str) -> Response:
    """GET ui-api/object-info/X/picklist-values/RECORDTYPE: the choices that a record type has.

    Page: User Interface API Developer Guide, "Get Values for All Picklist Fields of a Record Type".
    """
    org, spec = call.org, _spec(call.org, object_name)
    chosen = org.stages.of_record_type.get(long_id(record_type_id))
    values: dict[str, object] = {}
    for each in spec.fields.values():
        if each.type != "picklist" or not org.access.may_read(spec, each):
            continue
        names = _choices(org, each)
        if each.name == "StageName" and chosen is not None:
            names = [name for name in names if name in chosen]
        values[each.name] = {"values": [{"label": name, "value": name} for name in names]}
    return json_response({"picklistFieldValues": values})


def _choices(org: SalesforceOrg, each: FieldSpec) -> list[str]:
    if each.name == "StageName":
        return org.stages.active()
    if each.name == "CurrencyIsoCode":
        return [str(row["IsoCode"]) for row in org.all("CurrencyType") if row["IsActive"]]
    return list(each.choices)


def read_record(call: Call, object_name: str, record_id: str) -> Response:
    """GET sobjects/X/id, with `fields=` only those."""
    org, spec = call.org, _spec(call.org, object_name)
    record = org.find(spec.name, record_id) if is_id(record_id) else None
    if record is None or not org.access.sees_record(record):
        raise not_found()
    if record.is_deleted:
        raise ApiError(404, "ENTITY_IS_DELETED", "entity is deleted")
    row: dict[str, object] = {"attributes": attributes(spec, record, call.version)}
    for each in _wanted_fields(call, spec):
        row[each.name] = shown(org, each)(record)
    return json_response(row)


def _wanted_fields(call: Call, spec: ObjectSpec) -> list[FieldSpec]:
    readable = [each for each in spec.fields.values() if call.org.access.may_read(spec, each)]
    wanted = call.query.get("fields")
    if not wanted:
        return readable
    by_name = {each.name.lower(): each for each in readable}
    out = []
    for name in wanted.split(","):
        each = by_name.get(name.strip().lower())
        if each is None:
            message = f"No such column '{name}' on sobject of type {spec.name}"
            raise ApiError(400, "INVALID_FIELD", message)
        out.append(each)
    return out


def _spec(org: SalesforceOrg, object_name: str) -> ObjectSpec:
    spec = org.visible_spec(object_name)
    if spec is None:
        raise not_found()
    return spec


# Deletions and updates by time


def deleted(call: Call, object_name: str) -> Response:
    """GET sobjects/X/deleted/?start&end: soft and hard deletions of the last 15 days."""
    org, spec = call.org, _replicated(call, object_name, "getDeleted")
    start, end = _span(call, days=DELETED_DAYS)
    since = org.deletion_log_since
    if since is not None and start < since:
        # REST guide: the log is purged under load; what it no longer covers it refuses.
        message = f"startDate before earliestDateAvailable: {stamp_text(since)}"
        raise ApiError(400, "INVALID_REPLICATION_DATE", message)
    moments = {
        record.id: record.state.deleted_at
        for record in org.all(spec.name, include_deleted=True)
        if record.state.deleted_at is not None and start <= record.state.deleted_at < end
    }
    moments |= {gone.id: gone.at for gone in org.erased_between(spec.name, start, end)}
    _refuse_too_many(org, len(moments))
    listed = [
        {"id": record_id, "deletedDate": stamp_text(moment)}
        for record_id, moment in moments.items()
    ]
    earliest = since or org.now() - timedelta(days=DELETED_DAYS)
    answer = {
        "deletedRecords": listed,
        "earliestDateAvailable": stamp_text(earliest),
        "latestDateCovered": stamp_text(_covered_until(org, end)),
    }
    return json_response(answer)


def updated(call: Call, object_name: str) -> Response:
    """GET sobjects/X/updated/?start&end: ids of live records changed in the span."""
    org, spec = call.org, _replicated(call, object_name, "getUpdated")
    start, end = _span(call, days=UPDATED_DAYS)
    ids = [r.id for r in org.all(spec.name) if start <= r.state.modified_at < end]
    _refuse_too_many(org, len(ids))
    covered = stamp_text(_covered_until(org, end))
    return json_response({"ids": ids, "latestDateCovered": covered})


def _refuse_too_many(org: SalesforceOrg, count: int) -> None:
    if count > org.replication_ids_max:
        message = f"the number of ids exceeds {org.replication_ids_max}: use a shorter span"
        raise ApiError(400, "EXCEEDED_ID_LIMIT", message)


def _replicated(call: Call, object_name: str, operation: str) -> ObjectSpec:
    spec = _spec(call.org, object_name)
    if not spec.replicateable:
        message = f"entity type {spec.name} does not support {operation}"
        raise ApiError(400, "INVALID_TYPE_FOR_OPERATION", message)
    return spec


def _span(call: Call, *, days: int) -> tuple[datetime, datetime]:
    start, end = (_instant(call, name) for name in ("start", "end"))
    if end - start <= SHORTEST_SPAN:
        message = "startDate has to be more than one minute before endDate"
        raise ApiError(400, "INVALID_REPLICATION_DATE", message)
    if start < call.org.now() - timedelta(days=days):
        message = f"The date range is out of bounds: startDate is more than {days} days back"
        raise ApiError(400, "INVALID_REPLICATION_DATE", message)
    return start, end


def _instant(call: Call, name: str) -> datetime:
    text = call.query.get(name, "")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        # A `+` that was not encoded arrives as a blank, and is refused like other nonsense.
        message = f"The value '{text}' of the parameter '{name}' is no date and time"
        raise ApiError(400, "INVALID_REPLICATION_DATE", message)
    # The seconds of both ends are ignored (REST guide, "sObject Get Deleted").
    return moment.astimezone(UTC).replace(second=0, microsecond=0)


def _covered_until(org: SalesforceOrg, end: datetime) -> datetime:
    """`latestDateCovered`: up to here no transaction is open that may still add deletions."""
    until = min(end, (org.now() - org.replication_lag).replace(second=0, microsecond=0))
    begun = org.oldest_open_transaction()
    return until if begun is None else min(until, begun)


# Limits


def limits(call: Call) -> Response:
    """GET limits."""
    usage = call.org.usage
    remaining = max(0, usage.most - usage.used)
    jobs = call.org.jobs
    used = {
        "DailyBulkV2QueryJobs": (jobs.query_jobs_max, jobs.query_jobs),
        "DailyBulkV2QueryFileStorageMB": (jobs.result_mb_max, jobs.result_bytes // 1_000_000),
        "DailyBulkApiBatches": (jobs.batches_max, jobs.batches),
    }
    answer = {
        name: {"Max": most, "Remaining": max(0, most - taken)}
        for name, (most, taken) in used.items()
    }
    answer["DailyApiRequests"] = {"Max": usage.most, "Remaining": remaining}
    return json_response(answer)


def record_count(call: Call) -> Response:
    """GET limits/recordCount?sObjects=: approximate numbers of records."""
    wanted = {name.strip().lower() for name in call.query.get("sObjects", "").split(",")} - {""}
    counts = [
        {"name": spec.name, "count": len(call.org.rows(spec.name))}
        for spec in call.org.schema.values()
        if not wanted or spec.name.lower() in wanted
    ]
    return json_response({"sObjects": counts})

"""The settings of the fake Salesforce org, each by its name; see docs/sandbox-salesforce.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sandbox.salesforce_ids import is_id, long_id
from sandbox.salesforce_keys import public_pem

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg


def change_setting(org: SalesforceOrg, name: str, value: object) -> None:
    """Change one setting.

    Raises:
        ValueError: for a setting the org does not have, or a value it cannot take.
    """
    setter = _SETTINGS.get(name)
    if setter is None:
        known = ", ".join(sorted(_SETTINGS))
        raise ValueError(f"salesforce has no setting {name!r}; it has {known}")
    setter(org, value)


def whole(value: object) -> int:
    """A whole number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")  # noqa: TRY004 - a bad setting
    return value


def entries(value: object) -> dict[str, object]:
    """A JSON object.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is no JSON object")  # noqa: TRY004 - a bad setting
    return {str(key): each for key, each in value.items()}


def names(value: object) -> list[str]:
    """A list of names.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")  # noqa: TRY004 - a bad setting
    return [str(each) for each in value]


def _set_org_id(org: SalesforceOrg, value: object) -> None:
    if not is_id(str(value)):
        raise ValueError(f"{value!r} is no org id of 15 or 18 characters")
    org.rename_org(long_id(str(value)))


def _set_permission(permission: str) -> Callable[[SalesforceOrg, object], None]:
    def setter(org: SalesforceOrg, value: object) -> None:
        org.edit("PermissionSet", org.profile_permissions_id, {permission: bool(value)})

    return setter


def _set_daily_calls_max(org: SalesforceOrg, value: object) -> None:
    org.usage.most = whole(value)


def _set_daily_calls_used(org: SalesforceOrg, value: object) -> None:
    org.usage.set_used(whole(value))


def _set_page_rows(org: SalesforceOrg, value: object) -> None:
    org.page_rows = whole(value)


def _set_rotate_tokens(org: SalesforceOrg, value: object) -> None:
    org.sessions.rotates = bool(value)


def _set_assignment_owner(org: SalesforceOrg, value: object) -> None:
    org.assignment_owner = None if value is None else long_id(str(value))


def _set_currencies(org: SalesforceOrg, value: object) -> None:
    given = {"corporate": "USD"} if value is True else entries(value)
    unknown = set(given) - {"corporate", "rates", "dated"}
    if unknown:
        raise ValueError(f"multi_currency has no {sorted(unknown)}: corporate, rates, dated")
    rates = {code: float(str(rate)) for code, rate in entries(given.get("rates", {})).items()}
    dated = bool(given.get("dated", False))
    org.features.use_currencies(str(given.get("corporate", "USD")), rates, dated=dated)


def _set_person_accounts(org: SalesforceOrg, value: object) -> None:
    if value is not True:
        raise ValueError("person accounts cannot be switched off again")
    org.features.use_person_accounts()


def _set_tracked(org: SalesforceOrg, value: object) -> None:
    for object_name, fields in entries(value).items():
        org.history.track(object_name, names(fields))


def _set_cascades_stamp(org: SalesforceOrg, value: object) -> None:
    org.relatives.cascades_stamp = bool(value)


def _set_hidden_records(org: SalesforceOrg, value: object) -> None:
    org.access.hidden_records = {long_id(each) for each in names(value)}


def _revoke_tokens(org: SalesforceOrg, value: object) -> None:
    if isinstance(value, str):
        org.sessions.revoke_one(value)
    else:
        org.sessions.revoke()


def _expire_locators(org: SalesforceOrg, _: object) -> None:
    org.sessions.close_locators()


def _purge_deletion_log(org: SalesforceOrg, _: object) -> None:
    org.purge_deletion_log()


def _hide_fields(org: SalesforceOrg, value: object) -> None:
    org.access.show_fields(value, visible=False)


def _show_fields(org: SalesforceOrg, value: object) -> None:
    org.access.show_fields(value, visible=True)


def _hide_objects(org: SalesforceOrg, value: object) -> None:
    org.access.show_objects(value, visible=False)


def _show_objects(org: SalesforceOrg, value: object) -> None:
    org.access.show_objects(value, visible=True)


def _set_bulk(org: SalesforceOrg, value: object) -> None:
    """``enabled``, ``polls``, ``seconds``, ``held``, ``part_rows``, ``upload_bytes``, and so on."""
    jobs = org.jobs
    for name, given in entries(value).items():
        match name:
            case "enabled":
                jobs.is_enabled = bool(given)
            case "held":
                jobs.pace.is_held = bool(given)
            case "polls":
                jobs.pace.polls = whole(given)
            case "seconds":
                jobs.pace.seconds = float(str(given))
            case "parent_lock_share":
                jobs.parent_lock_share = float(str(given))
            case "empty_body":
                jobs.empty_body = bool(given)
            case _ if name in _BULK_NUMBERS:
                setattr(jobs, name, whole(given))
            case _:
                known = "enabled, held, polls, seconds, empty_body, parent_lock_share"
                raise ValueError(f"bulk has no {name!r}: {known}, {', '.join(_BULK_NUMBERS)}")


def _set_app_calls_max(org: SalesforceOrg, value: object) -> None:
    org.usage.app_most = None if value is None else whole(value)


def _set_gzip(org: SalesforceOrg, value: object) -> None:
    org.compresses = bool(value)


def _set_query_timeout_rows(org: SalesforceOrg, value: object) -> None:
    org.query_timeout_rows = None if value is None else whole(value)


def _set_replication_lag(org: SalesforceOrg, value: object) -> None:
    org.replication_lag = timedelta(seconds=float(str(value)))


def _set_replication_ids_max(org: SalesforceOrg, value: object) -> None:
    org.replication_ids_max = whole(value)


def _set_certificate(org: SalesforceOrg, value: object) -> None:
    org.sessions.public_key = None if value is None else public_pem(str(value))


def _set_pre_authorized(org: SalesforceOrg, value: object) -> None:
    org.sessions.pre_authorized = set(names(value))


def _set_soap_login(org: SalesforceOrg, value: object) -> None:
    org.sessions.takes_soap_login = bool(value)


def _set_trusted_network(org: SalesforceOrg, value: object) -> None:
    org.sessions.trusts_network = bool(value)


def _set_client_credentials(org: SalesforceOrg, value: object) -> None:
    org.sessions.takes_client_credentials = bool(value)


def _set_is_sandbox(org: SalesforceOrg, value: object) -> None:
    org.edit("Organization", org.org_id, {"IsSandbox": bool(value)})


def _set_lock_share(org: SalesforceOrg, value: object) -> None:
    share = float(str(value))
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies between 0 and 1, not {share}")
    org.guards.lock_share = share


_BULK_NUMBERS: Final = (
    "part_rows", "upload_bytes", "batch_rows", "query_jobs_max", "result_mb_max", "batches_max",
    "query_jobs", "batches", "rows_at_once",
)  # fmt: skip
_SETTINGS: Final[Mapping[str, Callable[[SalesforceOrg, object], None]]] = {
    "daily_calls_max": _set_daily_calls_max,
    "daily_calls_used": _set_daily_calls_used,
    "page_rows": _set_page_rows,
    "rotate_tokens": _set_rotate_tokens,
    "revoke_tokens": _revoke_tokens,
    "expire_locators": _expire_locators,
    "purge_deletion_log": _purge_deletion_log,
    "hide_fields": _hide_fields,
    "show_fields": _show_fields,
    "hide_objects": _hide_objects,
    "show_objects": _show_objects,
    "hidden_records": _set_hidden_records,
    "assignment_owner": _set_assignment_owner,
    "may_customize": _set_permission("PermissionsCustomizeApplication"),
    "org_id": _set_org_id,
    "multi_currency": _set_currencies,
    "person_accounts": _set_person_accounts,
    "track_fields": _set_tracked,
    "cascades_stamp": _set_cascades_stamp,
    "bulk": _set_bulk,
    "app_calls_max": _set_app_calls_max,
    "gzip": _set_gzip,
    "query_timeout_rows": _set_query_timeout_rows,
    "replication_lag": _set_replication_lag,
    "replication_ids_max": _set_replication_ids_max,
    "certificate": _set_certificate,
    "pre_authorized": _set_pre_authorized,
    "soap_login": _set_soap_login,
    "trusted_network": _set_trusted_network,
    "client_credentials": _set_client_credentials,
    "is_sandbox": _set_is_sandbox,
    "lock_share": _set_lock_share,
}

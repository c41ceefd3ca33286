"""What the connected user may do beyond reading and writing KPIs, and what it may not see.

A tool that runs unattended should hold no right that it does not use. Pages: Object Reference,
"PermissionSet", "PermissionSetAssignment" (which lists the one behind the profile, too),
"ObjectPermissions", "UserPermissionAccess".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from simple_salesforce.format import format_soql

from connectors.base import Problem
from connectors.errors import MisconfiguredConnection, PermissionMissing, RequestRefused
from connectors.salesforce.client import Json, SalesforceClient
from connectors.salesforce.ids import long_id
from connectors.salesforce.schema import ObjectShape, OrgSchema

_EXCESS: Final[Mapping[str, str]] = {
    "PermissionsModifyAllData": "Modify All Data: it could change every record of the org",
    "PermissionsCustomizeApplication": "Customize Application: it could change the org itself;"
    " only setup needs that, and only once",
    "PermissionsManageUsers": "Manage Users: it could make and change users",
    "PermissionsAuthorApex": "Author Apex: it could change the org's code",
    "PermissionsModifyMetadata": "Modify Metadata: it could change the org itself",
    "PermissionsManageProfilesPermissionsets": "Manage Profiles and Permission Sets: it could give"
    " itself any right",
}
_ALL_DATA: Final = ("PermissionsViewAllData", "PermissionsModifyAllData")
_CLOSED: Final = (MisconfiguredConnection, PermissionMissing, RequestRefused)
"""An org need not show its permissions to the user."""
_SHARED: Final = frozenset({"Account", "Contact", "Lead", "Opportunity", "Case", "Campaign"})
"""Objects whose records belong to people; custom ones do as well."""


class Rights:
    """The permission sets of the connected user, its profile's included."""

    def __init__(
        self, client: SalesforceClient, schema: OrgSchema, written_objects: Collection[str] = ()
    ) -> None:
        self._client = client
        # Nobody changes other users' records without it.
        self._needed = {"PermissionsManageUsers"} if "User" in written_objects else set()
        self._shape = _shape(schema, "PermissionSet")
        self._objects = _shape(schema, "ObjectPermissions")
        self._sets = self._assigned()

    def problems(self, place: str, object_names: Sequence[str]) -> Iterator[Problem]:
        """Rights that are too many, and objects of which some records may be hidden."""
        if self._sets is None:
            yield Problem(
                place=place,
                message="The connected user's permissions cannot be seen, so nothing is said about"
                " rights it does not need.",
                remedy='Give it the permission "View Setup and Configuration", or compare it with'
                " docs/salesforce.md by hand.",
                is_error=False,
            )
            return
        for name, words in _EXCESS.items():
            holders = [_label(one) for one in self._sets if one.get(name) is True]
            if holders and name not in self._needed:
                yield Problem(
                    place=place,
                    message=f"The connected user holds the right {words}.",
                    remedy=f"Take it from {', '.join(holders)}, or connect a user of its own with"
                    " the rights that docs/salesforce.md lists.",
                    is_error=False,
                )
        yield from self._object_problems(place, object_names)

    def _object_problems(self, place: str, object_names: Sequence[str]) -> Iterator[Problem]:
        sees_all = any(one.get(name) is True for one in self._sets or () for name in _ALL_DATA)
        rows = self._object_rows(object_names)
        if rows is None:
            return
        for object_name in self._shared(object_names):
            mine = [row for row in rows if row.get("SobjectType") == object_name]
            if any(row.get("PermissionsModifyAllRecords") is True for row in mine):
                yield Problem(
                    place=place,
                    message=f"The connected user may modify all records of {object_name}, deleting"
                    " included; View All Records and edit access are enough.",
                    remedy=f"Take Modify All Records of {object_name} from its permission sets.",
                    is_error=False,
                )
            elif not sees_all and not any(
                row.get("PermissionsViewAllRecords") is True for row in mine
            ):
                yield Problem(
                    place=place,
                    message=f"The connected user has no View All Records on {object_name}: KPIs"
                    " count only the records that are shared with it.",
                    remedy=f"Give it View All Records on {object_name} by a permission set, unless"
                    " the org shares these records with everybody.",
                    is_error=False,
                )

    @staticmethod
    def _shared(object_names: Sequence[str]) -> list[str]:
        return [name for name in object_names if name in _SHARED or name.endswith("__c")]

    # ------------------------------------------------------------ what Salesforce says

    def _assigned(self) -> list[Json] | None:
        user_id = self._client.user_id()
        if user_id is None or self._shape is None:
            return None
        wanted = ["Id", "Name", "Label", "IsOwnedByProfile", *_EXCESS, *_ALL_DATA]
        seen = [name for name in dict.fromkeys(wanted) if self._shape.has(name)]
        try:
            assigned = self._client.query_all(
                format_soql(
                    "SELECT PermissionSetId FROM PermissionSetAssignment WHERE AssigneeId = {}",
                    user_id,
                ),
                deleted_too=False,
            )
            profile = self._client.query_all(
                format_soql("SELECT ProfileId FROM User WHERE Id = {}", user_id), deleted_too=False
            )
            ids = sorted({long_id(str(row["PermissionSetId"])) for row in assigned})
            profile_ids = [long_id(str(row["ProfileId"])) for row in profile]
            columns = f"SELECT {', '.join(seen)} FROM PermissionSet"  # noqa: S608  # described names
            rows = self._rows(columns, "Id", ids) + self._rows(columns, "ProfileId", profile_ids)
            return list({str(row["Id"]): row for row in rows}.values())
        except _CLOSED:
            return None

    def _rows(self, columns: str, name: str, ids: Sequence[str]) -> list[Json]:
        if not ids:
            return []
        soql = format_soql(f"{columns} WHERE {name} IN {{}}", ids)
        return self._client.query_all(soql, deleted_too=False)

    def _object_rows(self, object_names: Sequence[str]) -> list[Json] | None:
        wanted = self._shared(object_names)
        if not self._sets or not wanted or self._objects is None:
            return None
        try:
            rows = self._client.query_all(
                format_soql(
                    "SELECT SobjectType, PermissionsViewAllRecords, PermissionsModifyAllRecords"
                    " FROM ObjectPermissions WHERE ParentId IN {} AND SobjectType IN {}",
                    [str(one["Id"]) for one in self._sets],
                    wanted,
                ),
                deleted_too=False,
            )
        except _CLOSED:
            return None
        return rows


def _shape(schema: OrgSchema, name: str) -> ObjectShape | None:
    try:
        return schema.shape(name)
    except _CLOSED:
        return None


def _label(one: Json) -> str:
    if one.get("IsOwnedByProfile") is True:
        return "the user's profile"
    return f"the permission set {one.get('Label') or one.get('Name')}"

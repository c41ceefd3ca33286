"""What the integration user may see and write: field-level security, objects, sharing.

Pages: Help, "Field-Level Security" and "Object Permissions"; Object Reference,
"FieldPermissions", "PermissionSet", "PermissionSetAssignment".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.org import Record, Value
from sandbox.salesforce_fields import FieldSpec, ObjectSpec

if TYPE_CHECKING:
    from sandbox.salesforce_org import SalesforceOrg

_GRANTING = ("FieldPermissions", "PermissionSet", "PermissionSetAssignment")


@dataclass(frozen=True, slots=True)
class Grant:
    """What field-level security gives the run-time user on one field."""

    read: bool = False
    edit: bool = False


class Access:
    """The integration user's rights in one org."""

    def __init__(self, org: SalesforceOrg) -> None:
        self._org = org
        self._grants: tuple[tuple[int, ...], dict[tuple[str, str], Grant]] = ((), {})
        self.hidden_objects: set[str] = set()
        """Names of objects on which the user has no Read permission."""
        self.hidden_records: set[str] = set()
        """Ids that sharing keeps from the user."""

    def sees_object(self, spec: ObjectSpec) -> bool:
        """Whether the object exists for the user; without Read it looks like an unknown one."""
        return spec.name not in self.hidden_objects

    def sees_record(self, record: Record) -> bool:
        """Whether sharing shows the record; one that it hides looks like one that is gone."""
        return record.id not in self.hidden_records

    def may_read(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        """Whether describe lists the field for the run-time user, and queries may name it."""
        return not self.is_guarded(spec, each) or self._granted(spec, each).read

    def may_edit(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        """Whether the run-time user may write the field."""
        if not (each.updateable and spec.updateable):
            return False
        return not self.is_guarded(spec, each) or self._granted(spec, each).edit

    def has_permission(self, name: str) -> bool:
        """Whether the run-time user has a system permission, e.g. PermissionsManageUsers."""
        ids = self._permission_sets()
        return any(r[name] is True for r in self._org.all("PermissionSet") if r.id in ids)

    def is_guarded(self, spec: ObjectSpec, each: FieldSpec) -> bool:
        """Whether field-level security decides on the field."""
        return each.custom or (each.has_permissions and spec.custom_fields)

    def grant(self, spec: ObjectSpec, each: FieldSpec, parent_id: str, *, edit: bool) -> None:
        """Give a permission set reading, and with `edit` writing, of a field."""
        self._org.create(
            "FieldPermissions",
            {
                "ParentId": parent_id,
                "SobjectType": spec.name,
                "Field": f"{spec.name}.{each.name}",
                "PermissionsRead": True,
                "PermissionsEdit": edit,
            },
        )

    def show_fields(self, names: object, *, visible: bool) -> None:
        """Hide fields from the integration user, or show them again.

        Raises:
            ValueError: for what is no list, or a field without field-level security.
        """
        if not isinstance(names, list):
            raise ValueError('expected a list such as ["Opportunity.Amount"]')  # noqa: TRY004
        for name in names:
            object_name, _, field_name = str(name).partition(".")
            spec = self._org.known_spec(object_name)
            found = spec.get(field_name)
            if found is None or not self.is_guarded(spec, found):
                raise ValueError(f"{name} has no field-level security")
            grants = {"PermissionsRead": visible, "PermissionsEdit": visible and found.updateable}
            for row in list(self._org.all("FieldPermissions")):
                if row["Field"] == f"{spec.name}.{found.name}":
                    self._org.edit("FieldPermissions", row.id, grants)

    def show_objects(self, names: object, *, visible: bool) -> None:
        """Take object permissions from the integration user, or give them back."""
        if not isinstance(names, list):
            raise ValueError('expected a list such as ["Opportunity"]')  # noqa: TRY004
        for name in names:
            known = self._org.known_spec(str(name)).name
            if visible:
                self.hidden_objects.discard(known)
            else:
                self.hidden_objects.add(known)

    def _granted(self, spec: ObjectSpec, each: FieldSpec) -> Grant:
        revision = tuple(self._org.indexes.revision(name) for name in _GRANTING)
        if self._grants[0] != revision:
            self._grants = (revision, self._read_grants())
        return self._grants[1].get((spec.name, each.name), Grant())

    def _read_grants(self) -> dict[tuple[str, str], Grant]:
        mine = self._permission_sets()
        grants: dict[tuple[str, str], Grant] = {}
        for row in self._org.all("FieldPermissions"):
            if row["ParentId"] not in mine:
                continue
            object_name, _, name = str(row["Field"]).partition(".")
            have = grants.get((object_name, name), Grant())
            grants[object_name, name] = Grant(
                read=have.read or row["PermissionsRead"] is True,
                edit=have.edit or row["PermissionsEdit"] is True,
            )
        return grants

    def _permission_sets(self) -> set[Value]:
        assigned = {
            row["PermissionSetId"]
            for row in self._org.all("PermissionSetAssignment")
            if row["AssigneeId"] == self._org.api_user_id
        }
        return assigned | {self._org.profile_permissions_id}

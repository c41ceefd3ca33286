"""The objects and fields of the fake Salesforce org, and what describe says of them.

Page: Object Reference, "Standard Objects" (field names, types, lengths, who may write them) and
REST API Developer Guide, "sObject Describe".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

TEXT_TYPES: Final = frozenset(
    {"string", "textarea", "picklist", "multipicklist", "email", "phone", "url", "combobox"}
)
NUMBER_TYPES: Final = frozenset({"int", "double", "currency", "percent"})

_SOAP_TYPES: Final = {
    "id": "tns:ID", "reference": "tns:ID", "boolean": "xsd:boolean", "int": "xsd:int",
    "double": "xsd:double", "currency": "xsd:double", "percent": "xsd:double",
    "date": "xsd:date", "datetime": "xsd:dateTime",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of one object, in the words of describe."""

    name: str
    type: str
    label: str
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    filterable: bool = True
    custom: bool = False
    calculated: bool = False
    defaulted: bool = False
    reference_to: tuple[str, ...] = ()
    relationship: str | None = None
    choices: tuple[str, ...] = ()
    default: bool | None = None

    @property
    def is_text(self) -> bool:
        """Whether values are text that compares without regard to case."""
        return self.type in TEXT_TYPES

    @property
    def is_long_text(self) -> bool:
        """Whether this is a long text area, which queries cannot filter."""
        return self.type == "textarea" and not self.filterable

    @property
    def is_number(self) -> bool:
        """Whether values are JSON numbers."""
        return self.type in NUMBER_TYPES

    @property
    def is_id(self) -> bool:
        """Whether values are record ids."""
        return self.type in {"id", "reference"}

    @property
    def is_defaulted(self) -> bool:
        """Whether the org gives a value where a new record brings none; checkboxes always."""
        return self.defaulted or self.type == "boolean"

    @property
    def has_permissions(self) -> bool:
        """Whether field-level security applies: not to system and required fields."""
        return self.name not in _SYSTEM_NAMES and (self.nillable or self.type == "boolean")

    def described(self, *, updateable: bool, choices: Sequence[str]) -> dict[str, object]:
        """The entry of `fields` in a describe answer.

        Args:
            updateable: Whether this user may write the field.
            choices: The active picklist values.
        """
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "soapType": _SOAP_TYPES.get(self.type, "xsd:string"),
            "length": self.length,
            "byteLength": self.length * 3,
            "precision": self.precision,
            "scale": self.scale,
            "digits": 8 if self.type == "int" else 0,
            "nillable": self.nillable,
            "createable": self.createable and (updateable or not self.updateable),
            "updateable": updateable,
            "calculated": self.calculated,
            "calculatedFormula": None,
            "custom": self.custom,
            "defaultedOnCreate": self.is_defaulted,
            "defaultValue": self.default,
            "filterable": self.filterable,
            "sortable": self.filterable,
            "groupable": self.filterable and not self.is_number,
            "externalId": False,
            "idLookup": self.type == "id",
            "unique": False,
            "caseSensitive": False,
            "nameField": self.name == "Name",
            "compoundFieldName": None,
            "referenceTo": list(self.reference_to),
            "relationshipName": self.relationship,
            "restrictedPicklist": False,
            "picklistValues": [
                {"active": True, "defaultValue": False, "label": choice, "value": choice}
                for choice in choices
            ],
            "permissionable": self.has_permissions,
        }


@dataclass(slots=True)
class ObjectSpec:
    """One object: its prefix, what may be done with it, and its fields by lower-case name."""

    name: str
    label: str
    prefix: str
    createable: bool = True
    updateable: bool = True
    deletable: bool = True
    replicateable: bool = True
    """Whether deleted/ and updated/ serve it."""
    custom_fields: bool = False
    """Whether Tooling may add fields to it."""
    fields: dict[str, FieldSpec] = field(default_factory=dict)

    def add(self, spec: FieldSpec) -> None:
        """Add or replace a field."""
        self.fields[spec.name.lower()] = spec

    def get(self, name: str) -> FieldSpec | None:
        """The field of this name; case does not matter, as in SOQL."""
        return self.fields.get(name.lower())

    def relation(self, name: str) -> FieldSpec | None:
        """The reference field behind a relationship name such as `Owner`."""
        wanted = name.lower()
        for spec in self.fields.values():
            if spec.relationship is not None and spec.relationship.lower() == wanted:
                return spec
        return None

    def described(self, fields: Sequence[Mapping[str, object]]) -> dict[str, object]:
        """The describe answer with the fields given."""
        return {**self.listed(), "fields": list(fields), "childRelationships": [], "urls": {}}

    def listed(self) -> dict[str, object]:
        """The entry of `sobjects` in the list of all objects."""
        return {
            "name": self.name,
            "label": self.label,
            "labelPlural": self.label,
            "keyPrefix": self.prefix,
            "custom": False,
            "createable": self.createable,
            "updateable": self.updateable,
            "deletable": self.deletable,
            "undeletable": self.deletable,
            "queryable": True,
            "retrieveable": True,
            "replicateable": self.replicateable,
            "searchable": True,
            "layoutable": True,
            "triggerable": True,
            "mergeable": self.name == "Account",
            "feedEnabled": False,
            "deprecatedAndHidden": False,
        }


# Field builders: what the Object Reference's "Properties" lines say, in short.


def _text(name: str, length: int, kind: str = "string", *, required: bool = False) -> FieldSpec:
    return FieldSpec(name, kind, _label(name), length=length, nillable=not required)


def _long_text(name: str) -> FieldSpec:
    # SOQL Reference, "WHERE": long text areas cannot be filtered.
    return FieldSpec(name, "textarea", _label(name), length=32_000, filterable=False)


def _choice(name: str, *choices: str, required: bool = False) -> FieldSpec:
    return FieldSpec(
        name, "picklist", _label(name), length=255, nillable=not required, choices=choices
    )


def _number(name: str, kind: str, precision: int, scale: int) -> FieldSpec:
    return FieldSpec(name, kind, _label(name), precision=precision, scale=scale)


def _flag(name: str) -> FieldSpec:
    return FieldSpec(name, "boolean", _label(name), nillable=False, defaulted=True, default=False)


def _ref(name: str, to: str, *, required: bool = False) -> FieldSpec:
    return FieldSpec(
        name,
        "reference",
        _label(name),
        length=18,
        nillable=not required,
        defaulted=name == "OwnerId",
        reference_to=(to,),
        relationship=name.removesuffix("Id"),
    )


def _moment(name: str) -> FieldSpec:
    return FieldSpec(name, "datetime", _label(name))


def _read_only(spec: FieldSpec, *, nillable: bool | None = None) -> FieldSpec:
    kept = spec.nillable if nillable is None else nillable
    return replace(spec, createable=False, updateable=False, nillable=kept)


def _create_only(spec: FieldSpec) -> FieldSpec:
    return replace(spec, updateable=False)


def _label(name: str) -> str:
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in name)
    return spaced.strip().removesuffix(" Id") + (" ID" if name.endswith("Id") else "")


_SYSTEM_NAMES: Final = frozenset(
    {
        "Id", "IsDeleted", "MasterRecordId", "CreatedDate", "CreatedById", "LastModifiedDate",
        "LastModifiedById", "SystemModstamp", "Name", "OwnerId",
    }
)  # fmt: skip


def _system(*left_out: str) -> list[FieldSpec]:
    fields = [
        FieldSpec("Id", "id", "Record ID", length=18, nillable=False, defaulted=True),
        _flag("IsDeleted"),
        _moment("CreatedDate"),
        _ref("CreatedById", "User"),
        _moment("LastModifiedDate"),
        _ref("LastModifiedById", "User"),
        _moment("SystemModstamp"),
    ]
    return [_read_only(spec, nillable=False) for spec in fields if spec.name not in left_out]


def _object(spec: ObjectSpec, *fields: FieldSpec, system: Iterable[FieldSpec]) -> ObjectSpec:
    for each in (*system, *fields):
        spec.add(each)
    return spec


INDUSTRIES: Final = (
    "Agriculture", "Banking", "Construction", "Consulting", "Education", "Electronics",
    "Energy", "Engineering", "Entertainment", "Finance", "Government", "Healthcare",
    "Hospitality", "Insurance", "Manufacturing", "Media", "Retail", "Technology",
    "Telecommunications", "Transportation", "Utilities", "Other",
)  # fmt: skip
LEAD_SOURCES: Final = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
FORECASTS: Final = {
    "Omitted": "Omitted", "Pipeline": "Pipeline", "BestCase": "Best Case",
    "MostLikely": "Most Likely", "Forecast": "Commit", "Closed": "Closed",
}  # fmt: skip
"""ForecastCategory to ForecastCategoryName (Object Reference, "OpportunityStage")."""


def standard_objects() -> dict[str, ObjectSpec]:
    """A fresh set of the standard objects, by lower-case name."""
    objects = (
        _account(), _opportunity(), _opportunity_history(), _opportunity_stage(), _user(),
        _user_role(), _profile(), _organization(), _record_type(), _permission_set(),
        _field_permissions(), _permission_set_assignment(),
    )  # fmt: skip
    return {spec.name.lower(): spec for spec in objects}


def tooling_objects() -> dict[str, ObjectSpec]:
    """A fresh set of the Tooling API's objects, by lower-case name."""
    fields = (
        _text("DeveloperName", 40),
        _text("FullName", 255),
        _text("TableEnumOrId", 80),
        _text("NamespacePrefix", 15),
        _text("ManageableState", 40),
    )
    spec = _object(
        _setup_object("CustomField", "Custom Field", "00N"),
        *(_read_only(each) for each in fields),
        system=_system("IsDeleted", "SystemModstamp"),
    )
    return {spec.name.lower(): spec}


def _account() -> ObjectSpec:
    return _object(
        ObjectSpec("Account", "Account", "001", custom_fields=True),
        _text("Name", 255, required=True),
        _choice("Type", "Prospect", "Customer - Direct", "Customer - Channel", "Other"),
        _ref("ParentId", "Account"),
        _ref("RecordTypeId", "RecordType"),
        _text("BillingStreet", 255, "textarea"),
        _text("BillingCity", 40),
        _text("BillingState", 80),
        _text("BillingPostalCode", 20),
        _text("BillingCountry", 80),
        _text("ShippingCity", 40),
        _text("ShippingState", 80),
        _text("ShippingCountry", 80),
        _text("Phone", 40, "phone"),
        _text("AccountNumber", 40),
        _text("Website", 255, "url"),
        _choice("Industry", *INDUSTRIES),
        _number("AnnualRevenue", "currency", 18, 0),
        _number("NumberOfEmployees", "int", 8, 0),
        _choice("Ownership", "Public", "Private", "Subsidiary", "Other"),
        _choice("Rating", "Hot", "Warm", "Cold"),
        _text("TickerSymbol", 20),
        _text("Site", 80),
        _choice("AccountSource", *LEAD_SOURCES),
        _long_text("Description"),
        _ref("OwnerId", "User", required=True),
        _read_only(_ref("MasterRecordId", "Account")),
        _read_only(FieldSpec("LastActivityDate", "date", "Last Activity")),
        system=_system(),
    )


def _opportunity() -> ObjectSpec:
    return _object(
        ObjectSpec("Opportunity", "Opportunity", "006", custom_fields=True),
        _text("Name", 120, required=True),
        _ref("AccountId", "Account"),
        _ref("RecordTypeId", "RecordType"),
        _ref("CampaignId", "Campaign"),
        _choice("StageName", required=True),
        _number("Amount", "currency", 18, 2),
        _number("Probability", "percent", 3, 0),
        _read_only(_number("ExpectedRevenue", "currency", 18, 2)),
        _number("TotalOpportunityQuantity", "double", 18, 2),
        FieldSpec("CloseDate", "date", "Close Date", nillable=False),
        _choice("Type", "Existing Business", "New Business"),
        _choice("LeadSource", *LEAD_SOURCES),
        _text("NextStep", 255),
        _long_text("Description"),
        _read_only(_flag("IsClosed")),
        _read_only(_flag("IsWon")),
        _read_only(_choice("ForecastCategory", *FORECASTS)),
        _choice("ForecastCategoryName", *FORECASTS.values()),
        _read_only(_flag("HasOpportunityLineItem")),
        _ref("OwnerId", "User", required=True),
        _read_only(FieldSpec("LastActivityDate", "date", "Last Activity")),
        _read_only(_moment("LastStageChangeDate")),
        system=_system(),
    )


def _opportunity_history() -> ObjectSpec:
    # Read-only by nature: no field can be written, and it has no LastModifiedDate.
    rows = (
        _ref("OpportunityId", "Opportunity"),
        _choice("StageName"),
        _number("Amount", "currency", 18, 2),
        _number("ExpectedRevenue", "currency", 18, 2),
        FieldSpec("CloseDate", "date", "Close Date"),
        _number("Probability", "percent", 3, 0),
        _choice("ForecastCategory", *FORECASTS),
    )
    return _object(
        ObjectSpec(
            "OpportunityHistory",
            "Opportunity History",
            "008",
            createable=False,
            updateable=False,
            deletable=False,
            replicateable=False,
        ),
        *(_read_only(spec) for spec in rows),
        system=_system("LastModifiedDate", "LastModifiedById"),
    )


def _opportunity_stage() -> ObjectSpec:
    fields = (
        _text("MasterLabel", 255),
        _text("ApiName", 255),
        _flag("IsActive"),
        _number("SortOrder", "int", 9, 0),
        _flag("IsClosed"),
        _flag("IsWon"),
        _choice("ForecastCategory", *FORECASTS),
        _choice("ForecastCategoryName", *FORECASTS.values()),
        _number("DefaultProbability", "percent", 3, 0),
        _text("Description", 255),
    )
    return _object(
        _setup_object("OpportunityStage", "Opportunity Stage", "01J"),
        *(_read_only(spec) for spec in fields),
        system=_system("IsDeleted"),
    )


def _user() -> ObjectSpec:
    # A user is never deleted, only deactivated: the object has no IsDeleted.
    return _object(
        ObjectSpec("User", "User", "005", deletable=False, replicateable=False, custom_fields=True),
        _text("Username", 80, required=True),
        _text("FirstName", 40),
        _text("LastName", 80, required=True),
        _read_only(_text("Name", 121, required=True)),
        _text("CompanyName", 80),
        _text("Division", 80),
        _text("Department", 80),
        _text("Title", 80),
        _text("Email", 128, "email", required=True),
        _text("Alias", 8, required=True),
        _flag("IsActive"),
        _ref("UserRoleId", "UserRole"),
        _ref("ProfileId", "Profile", required=True),
        _ref("ManagerId", "User"),
        _choice("UserType", "Standard"),
        _choice("TimeZoneSidKey", required=True),
        _choice("LocaleSidKey", required=True),
        system=_system("IsDeleted"),
    )


def _user_role() -> ObjectSpec:
    return _object(
        _setup_object("UserRole", "Role", "00E"),
        _text("Name", 80, required=True),
        _text("DeveloperName", 80),
        _ref("ParentRoleId", "UserRole"),
        system=_system("IsDeleted", "CreatedDate", "CreatedById"),
    )


def _profile() -> ObjectSpec:
    return _object(
        _setup_object("Profile", "Profile", "00e"),
        _text("Name", 255, required=True),
        system=_system("IsDeleted"),
    )


def _organization() -> ObjectSpec:
    fields = (
        _text("Name", 80, required=True),
        _choice("TimeZoneSidKey"),
        _choice("DefaultLocaleSidKey"),
        _choice("LanguageLocaleKey"),
        _number("FiscalYearStartMonth", "int", 9, 0),
        _flag("UsesStartDateAsFiscalYearName"),
        _choice("OrganizationType"),
        _text("InstanceName", 5),
        _flag("IsSandbox"),
    )
    return _object(
        _setup_object("Organization", "Organization", "00D"),
        *(_read_only(spec) for spec in fields),
        system=_system("IsDeleted"),
    )


def _record_type() -> ObjectSpec:
    return _object(
        _setup_object("RecordType", "Record Type", "012"),
        _text("Name", 80, required=True),
        _text("DeveloperName", 80, required=True),
        _text("NamespacePrefix", 15),
        _text("Description", 255),
        _choice("SobjectType", required=True),
        _flag("IsActive"),
        system=_system("IsDeleted"),
    )


def _permission_set() -> ObjectSpec:
    return _object(
        ObjectSpec("PermissionSet", "Permission Set", "0PS", replicateable=False),
        _text("Name", 80, required=True),
        _text("Label", 80, required=True),
        _text("Description", 255),
        _create_only(_ref("ProfileId", "Profile")),
        _read_only(_flag("IsOwnedByProfile")),
        _read_only(_flag("IsCustom")),
        _flag("PermissionsCustomizeApplication"),
        _flag("PermissionsManageUsers"),
        system=_system("IsDeleted"),
    )


def _field_permissions() -> ObjectSpec:
    return _object(
        ObjectSpec("FieldPermissions", "Field Permissions", "01k", replicateable=False),
        _create_only(
            replace(_ref("ParentId", "PermissionSet", required=True), relationship="Parent")
        ),
        _create_only(_choice("SobjectType", required=True)),
        _create_only(_choice("Field", required=True)),
        _flag("PermissionsRead"),
        _flag("PermissionsEdit"),
        system=[s for s in _system() if s.name in {"Id", "SystemModstamp"}],
    )


def _permission_set_assignment() -> ObjectSpec:
    return _object(
        ObjectSpec(
            "PermissionSetAssignment",
            "Permission Set Assignment",
            "0Pa",
            updateable=False,
            replicateable=False,
        ),
        _create_only(_ref("PermissionSetId", "PermissionSet", required=True)),
        _create_only(_ref("AssigneeId", "User", required=True)),
        system=[s for s in _system() if s.name in {"Id", "SystemModstamp"}],
    )


def _setup_object(name: str, label: str, prefix: str) -> ObjectSpec:
    return ObjectSpec(
        name, label, prefix, createable=False, updateable=False, deletable=False,
        replicateable=False,
    )  # fmt: skip

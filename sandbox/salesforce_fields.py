"""Fields and objects in the words of describe, and short builders for them.

Pages: REST API Developer Guide, "sObject Describe"; Object Reference, "Field Types" and
"API Data Types and Salesforce Field Types".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from sandbox.org import Record, Value

TEXT_TYPES: Final = frozenset(
    {"string", "textarea", "picklist", "multipicklist", "email", "phone", "url", "combobox"}
)
NUMBER_TYPES: Final = frozenset({"int", "double", "currency", "percent"})

_SOAP_TYPES: Final = {
    "id": "tns:ID", "reference": "tns:ID", "boolean": "xsd:boolean", "int": "xsd:int",
    "double": "xsd:double", "currency": "xsd:double", "percent": "xsd:double",
    "date": "xsd:date", "datetime": "xsd:dateTime", "address": "urn:address",
    "anyType": "xsd:anyType",
}  # fmt: skip

Compute: TypeAlias = Callable[[Record], Value]
"""What a formula or roll-up shows of a record, worked out whenever it is read."""

Deletion: TypeAlias = Literal["bin", "traced", "traceless"]
"""Where a deleted record goes: the recycle bin, or nowhere, seen by deleted/ or not even so."""


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
    external_id: bool = False
    unique: bool = False
    compound: str | None = None
    """The compound field this one is a part of, for example BillingAddress."""
    reference_to: tuple[str, ...] = ()
    relationship: str | None = None
    choices: tuple[str, ...] = ()
    default: bool | None = None
    compute: Compute | None = None

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
    def is_compound(self) -> bool:
        """Whether the value is an object made of other fields, which nobody writes."""
        return self.type == "address"

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
            "aggregatable": self.filterable and self.type != "boolean",
            "externalId": self.external_id,
            "idLookup": self.type == "id" or self.external_id,
            "unique": self.unique,
            "caseSensitive": False,
            "nameField": self.name in _NAME_FIELDS,
            "compoundFieldName": self.compound,
            "referenceTo": list(self.reference_to),
            "relationshipName": self.relationship,
            "polymorphicForeignKey": len(self.reference_to) > 1,
            "namePointing": len(self.reference_to) > 1,
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
    custom: bool = False
    mergeable: bool = False
    has_currency: bool = False
    """Whether it gets CurrencyIsoCode when the org uses several currencies."""
    deletion: Deletion = "bin"
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
        return {**self.listed(), "fields": list(fields), "childRelationships": []}

    def listed(self) -> dict[str, object]:
        """The entry of `sobjects` in the list of all objects."""
        return {
            "name": self.name,
            "label": self.label,
            "labelPlural": self.label,
            "keyPrefix": self.prefix,
            "custom": self.custom,
            "customSetting": False,
            "createable": self.createable,
            "updateable": self.updateable,
            "deletable": self.deletable,
            "undeletable": self.deletable and self.deletion == "bin",
            "queryable": True,
            "retrieveable": True,
            "replicateable": self.replicateable,
            "searchable": True,
            "layoutable": True,
            "triggerable": True,
            "mergeable": self.mergeable,
            "feedEnabled": False,
            "deprecatedAndHidden": False,
            "urls": {},
        }


# Field builders: what the Object Reference's "Properties" lines say, in short.


def text(name: str, length: int, kind: str = "string", *, required: bool = False) -> FieldSpec:
    """A text of at most `length` characters; `kind` may be email, phone, url, textarea."""
    return FieldSpec(name, kind, label_of(name), length=length, nillable=not required)


def long_text(name: str) -> FieldSpec:
    """A long text area, which cannot be filtered (SOQL Reference, "WHERE")."""
    return FieldSpec(name, "textarea", label_of(name), length=32_000, filterable=False)


def choice(name: str, *choices: str, required: bool = False) -> FieldSpec:
    """An unrestricted picklist."""
    return FieldSpec(
        name, "picklist", label_of(name), length=255, nillable=not required, choices=choices
    )


def number(name: str, kind: str, precision: int, scale: int) -> FieldSpec:
    """An int, double, currency or percent."""
    return FieldSpec(name, kind, label_of(name), precision=precision, scale=scale)


def money(name: str) -> FieldSpec:
    """A currency field of the usual sixteen digits and two decimals."""
    return number(name, "currency", 18, 2)


def flag(name: str) -> FieldSpec:
    """A checkbox, which is never null."""
    return FieldSpec(name, "boolean", label_of(name), nillable=False, defaulted=True, default=False)


def ref(name: str, *to: str, required: bool = False, relationship: str = "") -> FieldSpec:
    """A lookup; with several targets a polymorphic one."""
    return FieldSpec(
        name,
        "reference",
        label_of(name),
        length=18,
        nillable=not required,
        defaulted=name == "OwnerId",
        reference_to=to,
        relationship=relationship or name.removesuffix("Id"),
    )


def moment(name: str) -> FieldSpec:
    """A dateTime."""
    return FieldSpec(name, "datetime", label_of(name))


def day(name: str, *, required: bool = False) -> FieldSpec:
    """A date."""
    return FieldSpec(name, "date", label_of(name), nillable=not required)


def any_value(name: str) -> FieldSpec:
    """A value of any type, as field histories hold: neither filtered nor sorted."""
    # Object Reference, "CaseHistory": OldValue and NewValue are anyType, Nillable and nothing else.
    return FieldSpec(name, "anyType", label_of(name), length=255, filterable=False)


def read_only(spec: FieldSpec, *, nillable: bool | None = None) -> FieldSpec:
    """The field as one that only the org writes."""
    kept = spec.nillable if nillable is None else nillable
    return replace(spec, createable=False, updateable=False, nillable=kept)


def create_only(spec: FieldSpec) -> FieldSpec:
    """The field as one that is set once, at creation."""
    return replace(spec, updateable=False)


def address(prefix: str) -> list[FieldSpec]:
    """An address by its parts, and the compound field that shows them together."""
    whole = f"{prefix}Address"
    parts = (
        text(f"{prefix}Street", 255, "textarea"),
        text(f"{prefix}City", 40),
        text(f"{prefix}State", 80),
        text(f"{prefix}PostalCode", 20),
        text(f"{prefix}Country", 80),
    )
    together = read_only(FieldSpec(whole, "address", label_of(whole), filterable=False))
    return [*(replace(part, compound=whole) for part in parts), together]


def person_name() -> list[FieldSpec]:
    """First and last name, and the Name that the org makes of them."""
    parts = (text("Salutation", 40, "picklist"), text("FirstName", 40))
    last = text("LastName", 80, required=True)
    whole = replace(read_only(text("Name", 121, required=True)), compound="Name")
    return [*(replace(part, compound="Name") for part in (*parts, last)), whole]


def label_of(name: str) -> str:
    """A label made of a field's name."""
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in name)
    return spaced.strip().removesuffix(" Id") + (" ID" if name.endswith("Id") else "")


_NAME_FIELDS: Final = frozenset({"Name", "CaseNumber", "ContractNumber", "MasterLabel"})
_SYSTEM_NAMES: Final = frozenset(
    {
        "Id", "IsDeleted", "MasterRecordId", "CreatedDate", "CreatedById", "LastModifiedDate",
        "LastModifiedById", "SystemModstamp", "Name", "OwnerId", "IsPersonAccount",
    }
)  # fmt: skip


def system(*left_out: str) -> list[FieldSpec]:
    """Id, IsDeleted and the audit fields that nearly every object has."""
    fields = [
        FieldSpec("Id", "id", "Record ID", length=18, nillable=False, defaulted=True),
        flag("IsDeleted"),
        moment("CreatedDate"),
        ref("CreatedById", "User"),
        moment("LastModifiedDate"),
        ref("LastModifiedById", "User"),
        moment("SystemModstamp"),
    ]
    return [read_only(spec, nillable=False) for spec in fields if spec.name not in left_out]


def built(spec: ObjectSpec, *fields: FieldSpec, system: Iterable[FieldSpec]) -> ObjectSpec:
    """The object with these fields, the system's first."""
    for each in (*system, *fields):
        spec.add(each)
    return spec


def setup_object(name: str, label: str, prefix: str) -> ObjectSpec:
    """An object of the org's setup, which the data API only reads."""
    return ObjectSpec(
        name, label, prefix, createable=False, updateable=False, deletable=False,
        replicateable=False,
    )  # fmt: skip


def history_object(name: str, label: str, prefix: str, parent: str) -> ObjectSpec:
    """A field history: rows of what a tracked field was and became.

    Object Reference, "StandardObjectNameHistory": CreatedDate is its only time; it has neither
    SystemModstamp nor LastModifiedDate.
    """
    rows = (
        ref(f"{parent}Id", parent, required=True),
        choice("Field", required=True),
        choice("DataType"),
        any_value("OldValue"),
        any_value("NewValue"),
    )
    spec = ObjectSpec(
        name, label, prefix, createable=False, updateable=False, deletable=False,
        replicateable=False,
    )  # fmt: skip
    return built(
        spec,
        *(read_only(each) for each in rows),
        system=system("LastModifiedDate", "LastModifiedById", "SystemModstamp"),
    )

"""The objects of the fake Salesforce org: service, people and setup, and all of them together.

Page: Object Reference, "Standard Objects" (field names, types, lengths, who may write them).
"""

from dataclasses import replace

from sandbox.salesforce_fields import (
    FieldSpec,
    ObjectSpec,
    built,
    choice,
    create_only,
    day,
    flag,
    history_object,
    long_text,
    moment,
    number,
    read_only,
    ref,
    setup_object,
    system,
    text,
)
from sandbox.salesforce_sales_objects import FORECASTS, LAST_ACTIVITY, sales_objects


def standard_objects() -> dict[str, ObjectSpec]:
    """A fresh set of the standard objects, by lower-case name."""
    objects = (
        *sales_objects(), *service_objects(), _user(), _user_role(), _profile(), _organization(),
        _record_type(), _business_process(), _group(), _queue_object(), _opportunity_stage(),
        _lead_status(), _entity_definition(), _permission_set(), _field_permissions(),
        _permission_set_assignment(),
    )  # fmt: skip
    return {spec.name.lower(): spec for spec in objects}


def tooling_objects() -> dict[str, ObjectSpec]:
    """A fresh set of the Tooling API's objects, by lower-case name."""
    fields = (
        text("DeveloperName", 40),
        text("FullName", 255),
        text("TableEnumOrId", 80),
        text("NamespacePrefix", 15),
        text("ManageableState", 40),
    )
    spec = built(
        setup_object("CustomField", "Custom Field", "00N"),
        *(read_only(each) for each in fields),
        system=system("IsDeleted", "SystemModstamp"),
    )
    return {spec.name.lower(): spec}


def name_object() -> ObjectSpec:
    """What a polymorphic lookup such as Case.Owner shows of whatever it points at."""
    # Object Reference, "Name": the only fields reachable through such a relationship.
    fields = (
        text("Name", 255), text("FirstName", 40), text("LastName", 80), text("Title", 80),
        text("Email", 80, "email"), text("Phone", 40, "phone"), text("Username", 80),
        text("Alias", 8), flag("IsActive"), ref("ProfileId", "Profile"),
        ref("UserRoleId", "UserRole"),
        replace(choice("Type"), label="Type of what is pointed at"),
    )  # fmt: skip
    return built(
        setup_object("Name", "Name", ""),
        *(read_only(each) for each in fields),
        system=[each for each in system() if each.name == "Id"],
    )


# Service


def service_objects() -> list[ObjectSpec]:
    """Cases, their history and their statuses."""
    history = history_object("CaseHistory", "Case History", "017", "Case")
    return [_case(), history, _case_status(), _business_hours()]


def _case() -> ObjectSpec:
    return built(
        ObjectSpec("Case", "Case", "500", custom_fields=True, has_currency=True, mergeable=True),
        read_only(text("CaseNumber", 30, required=True)),
        ref("ContactId", "Contact"),
        ref("AccountId", "Account"),
        ref("ParentId", "Case"),
        ref("RecordTypeId", "RecordType"),
        ref("BusinessHoursId", "BusinessHours"),
        text("SuppliedName", 80),
        text("SuppliedEmail", 80, "email"),
        choice("Type", "Problem", "Question", "Feature Request"),
        replace(choice("Status"), defaulted=True),
        choice("Reason"),
        choice("Origin", "Phone", "Email", "Web"),
        text("Subject", 255),
        choice("Priority", "High", "Medium", "Low"),
        long_text("Description"),
        read_only(flag("IsClosed")),
        read_only(moment("ClosedDate")),
        flag("IsEscalated"),
        read_only(flag("IsClosedOnCreate")),
        ref("OwnerId", "Group", "User", required=True),
        read_only(ref("MasterRecordId", "Case", relationship="MasterRecord")),
        system=system(),
    )


def _case_status() -> ObjectSpec:
    fields = (
        text("MasterLabel", 255),
        text("ApiName", 255),
        number("SortOrder", "int", 9, 0),
        flag("IsDefault"),
        flag("IsClosed"),
    )
    return built(
        setup_object("CaseStatus", "Case Status Value", "01J"),
        *(read_only(spec) for spec in fields),
        system=system("IsDeleted"),
    )


def _business_hours() -> ObjectSpec:
    return built(
        ObjectSpec("BusinessHours", "Business Hours", "01m", deletable=False, replicateable=False),
        text("Name", 80, required=True),
        flag("IsActive"),
        flag("IsDefault"),
        choice("TimeZoneSidKey"),
        system=system("IsDeleted"),
    )


# People and setup


def _opportunity_stage() -> ObjectSpec:
    fields = (
        text("MasterLabel", 255),
        text("ApiName", 255),
        flag("IsActive"),
        number("SortOrder", "int", 9, 0),
        flag("IsClosed"),
        flag("IsWon"),
        choice("ForecastCategory", *FORECASTS),
        choice("ForecastCategoryName", *FORECASTS.values()),
        number("DefaultProbability", "percent", 3, 0),
        text("Description", 255),
    )
    return built(
        setup_object("OpportunityStage", "Opportunity Stage", "01J"),
        *(read_only(spec) for spec in fields),
        system=system("IsDeleted"),
    )


def _entity_definition() -> ObjectSpec:
    # Tooling API, "EntityDefinition": which objects there are; Id and DurableId are no record ids.
    fields = (
        text("DurableId", 255), text("QualifiedApiName", 70), text("DeveloperName", 40),
        text("Label", 40), text("PluralLabel", 40), text("KeyPrefix", 3), flag("IsQueryable"),
        flag("IsReplicateable"), flag("IsCustomizable"), flag("IsCustomSetting"),
    )  # fmt: skip
    return built(
        setup_object("EntityDefinition", "Entity Definition", "4ie"),
        *(read_only(each) for each in fields),
        system=[each for each in system() if each.name == "Id"],
    )


def _lead_status() -> ObjectSpec:
    fields = (
        text("MasterLabel", 255),
        text("ApiName", 255),
        number("SortOrder", "int", 9, 0),
        flag("IsDefault"),
        flag("IsConverted"),
    )
    return built(
        setup_object("LeadStatus", "Lead Status Value", "01J"),
        *(read_only(spec) for spec in fields),
        system=system("IsDeleted"),
    )


def _user() -> ObjectSpec:
    # A user is never deleted, only deactivated: the object has no IsDeleted.
    return built(
        ObjectSpec("User", "User", "005", deletable=False, replicateable=False, custom_fields=True),
        text("Username", 80, required=True),
        replace(text("FirstName", 40), compound="Name"),
        replace(text("LastName", 80, required=True), compound="Name"),
        replace(read_only(text("Name", 121, required=True)), compound="Name"),
        text("CompanyName", 80),
        text("Division", 80),
        text("Department", 80),
        text("Title", 80),
        text("Email", 128, "email", required=True),
        text("Alias", 8, required=True),
        flag("IsActive"),
        ref("UserRoleId", "UserRole"),
        ref("ProfileId", "Profile", required=True),
        ref("ManagerId", "User"),
        choice("UserType", "Standard"),
        choice("TimeZoneSidKey", required=True),
        choice("LocaleSidKey", required=True),
        system=system("IsDeleted"),
    )


def _user_role() -> ObjectSpec:
    return built(
        setup_object("UserRole", "Role", "00E"),
        text("Name", 80, required=True),
        text("DeveloperName", 80),
        ref("ParentRoleId", "UserRole"),
        system=system("IsDeleted", "CreatedDate", "CreatedById"),
    )


def _profile() -> ObjectSpec:
    return built(
        setup_object("Profile", "Profile", "00e"),
        text("Name", 255, required=True),
        system=system("IsDeleted"),
    )


def _organization() -> ObjectSpec:
    fields = (
        text("Name", 80, required=True),
        choice("TimeZoneSidKey"),
        choice("DefaultLocaleSidKey"),
        choice("LanguageLocaleKey"),
        number("FiscalYearStartMonth", "int", 9, 0),
        flag("UsesStartDateAsFiscalYearName"),
        choice("OrganizationType"),
        text("InstanceName", 5),
        flag("IsSandbox"),
    )
    return built(
        setup_object("Organization", "Organization", "00D"),
        *(read_only(spec) for spec in fields),
        system=system("IsDeleted"),
    )


def _record_type() -> ObjectSpec:
    return built(
        setup_object("RecordType", "Record Type", "012"),
        text("Name", 80, required=True),
        text("DeveloperName", 80, required=True),
        text("NamespacePrefix", 15),
        text("Description", 255),
        ref("BusinessProcessId", "BusinessProcess"),
        choice("SobjectType", required=True),
        flag("IsActive"),
        system=system("IsDeleted"),
    )


def _business_process() -> ObjectSpec:
    # The sales process behind a record type; which stages it has is no field of it.
    return built(
        setup_object("BusinessProcess", "Business Process", "019"),
        text("Name", 80, required=True),
        text("Description", 255),
        choice("TableEnumOrId", required=True),
        flag("IsActive"),
        system=system("IsDeleted"),
    )


def _group() -> ObjectSpec:
    # Queues are groups of Type Queue (Object Reference, "Group").
    return built(
        ObjectSpec("Group", "Group", "00G", replicateable=False, deletion="traceless"),
        text("Name", 40, required=True),
        text("DeveloperName", 80),
        create_only(choice("Type", "Regular", "Queue", "Role", "Organization")),
        text("Email", 255, "email"),
        flag("DoesSendEmailToMembers"),
        system=system("IsDeleted"),
    )


def _queue_object() -> ObjectSpec:
    return built(
        ObjectSpec("QueueSobject", "Queue Sobject", "03g", updateable=False, replicateable=False,
                   deletion="traceless"),
        create_only(ref("QueueId", "Group", required=True)),
        create_only(choice("SobjectType", required=True)),
        system=[s for s in system() if s.name in {"Id", "CreatedById", "SystemModstamp"}],
    )  # fmt: skip


def _permission_set() -> ObjectSpec:
    return built(
        ObjectSpec("PermissionSet", "Permission Set", "0PS", replicateable=False),
        text("Name", 80, required=True),
        text("Label", 80, required=True),
        text("Description", 255),
        create_only(ref("ProfileId", "Profile")),
        read_only(flag("IsOwnedByProfile")),
        read_only(flag("IsCustom")),
        flag("PermissionsCustomizeApplication"),
        flag("PermissionsManageUsers"),
        flag("PermissionsApiEnabled"),
        flag("PermissionsViewAllData"),
        flag("PermissionsModifyAllData"),
        system=system("IsDeleted"),
    )


def _field_permissions() -> ObjectSpec:
    return built(
        ObjectSpec("FieldPermissions", "Field Permissions", "01k", replicateable=False),
        create_only(ref("ParentId", "PermissionSet", required=True, relationship="Parent")),
        create_only(choice("SobjectType", required=True)),
        create_only(choice("Field", required=True)),
        flag("PermissionsRead"),
        flag("PermissionsEdit"),
        system=[s for s in system() if s.name in {"Id", "SystemModstamp"}],
    )


def _permission_set_assignment() -> ObjectSpec:
    return built(
        ObjectSpec(
            "PermissionSetAssignment",
            "Permission Set Assignment",
            "0Pa",
            updateable=False,
            replicateable=False,
        ),
        create_only(ref("PermissionSetId", "PermissionSet", required=True)),
        create_only(ref("AssigneeId", "User", required=True)),
        system=[s for s in system() if s.name in {"Id", "SystemModstamp"}],
    )


# What exists only where the org has switched it on


def currency_objects(*, dated: bool) -> list[ObjectSpec]:
    """The currencies of a multi-currency org, with `dated` also rates that change over time."""
    # Object Reference, "CurrencyType" and "DatedConversionRate".
    kinds = built(
        ObjectSpec("CurrencyType", "Currency Type", "01L", deletable=False, replicateable=False),
        create_only(choice("IsoCode", required=True)),
        number("ConversionRate", "double", 18, 6),
        number("DecimalPlaces", "int", 1, 0),
        flag("IsActive"),
        read_only(flag("IsCorporate")),
        system=system("IsDeleted"),
    )
    rates = built(
        ObjectSpec("DatedConversionRate", "Dated Conversion Rate", "04w", replicateable=False,
                   deletion="traceless"),
        create_only(choice("IsoCode", required=True)),
        create_only(day("StartDate")),
        read_only(day("NextStartDate")),
        number("ConversionRate", "double", 18, 6),
        system=system("IsDeleted"),
    )  # fmt: skip
    return [kinds, rates] if dated else [kinds]


def currency_field() -> FieldSpec:
    """The record's own currency, in a multi-currency org."""
    return replace(
        choice("CurrencyIsoCode"), label="Currency ISO Code", length=3, nillable=False,
        defaulted=True,
    )  # fmt: skip


def person_fields() -> dict[str, list[FieldSpec]]:
    """The fields that person accounts bring, by object."""
    # Object Reference, "Account" and "Contact": Person Account fields; RecordType.IsPersonType.
    account = [
        replace(text("Salutation", 40, "picklist"), compound="Name"),
        replace(text("FirstName", 40), compound="Name"),
        replace(text("LastName", 80), compound="Name"),
        read_only(flag("IsPersonAccount")),
        read_only(ref("PersonContactId", "Contact")),
        text("PersonEmail", 80, "email"),
        text("PersonMobilePhone", 40, "phone"),
        text("PersonTitle", 80),
        choice("PersonLeadSource"),
        flag("PersonHasOptedOutOfEmail"),
    ]
    return {
        "Account": account,
        "Contact": [read_only(flag("IsPersonAccount"))],
        "RecordType": [read_only(flag("IsPersonType"))],
    }


def custom_object(name: str, label: str, prefix: str) -> ObjectSpec:
    """A custom object with its standing fields; others are added as custom fields."""
    return built(
        ObjectSpec(name, label, prefix, custom=True, custom_fields=True, has_currency=True),
        text("Name", 80),
        ref("OwnerId", "Group", "User", required=True),
        LAST_ACTIVITY,
        system=system(),
    )

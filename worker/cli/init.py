"""init: a first configuration from what live CRMs show, without a secret in it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from pydantic_core import PydanticCustomError

from config.errors import ConfigurationError, did_you_mean
from config.loader import load
from config.models import Config
from config.scalars import read_currency, read_timezone
from connectors.base import Books, ConnectionSettings
from worker import observe, settings
from worker.cli.app import CommandError, Session, app, session_of
from worker.cli.exits import ExitCode
from worker.cli.firstlook import SECONDS, CannotLook, CrmLook, look, read_books
from worker.cli.firstyaml import KINDS, Access, CrmKind, Draft, first_yaml, packs_of
from worker.cli.logins import (
    Credential,
    Login,
    Told,
    by_file,
    by_variable,
    flows_of,
    from_environment,
    likeliest,
    login_of,
)
from worker.cli.output import Printer
from worker.feeds import unfed_kpis
from worker.runtime import Runtime, open_runtime
from worker.sharing import StoredTokens

_SAID_ALOUD_SECONDS: Final = 2.0
_SALESFORCE: Final = ".salesforce.com"
_DOMAIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,200}", re.IGNORECASE)
_READ_TIMEOUT: Final = timedelta(seconds=15)
_TOTAL_TIMEOUT: Final = timedelta(seconds=40)


@app.command()
def init(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write [kpisync.yaml].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing, even on a terminal.")] = False,
    connect: Annotated[
        list[str] | None, typer.Option(help="salesforce or hubspot; repeat it for both.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="Salesforce's My Domain, such as acme.my.")
    ] = None,
    base_url: Annotated[
        list[str] | None,
        typer.Option(help="Another address (sandbox, proxy): URL, or CRM=URL; repeat it for both."),
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(
            help="How to log in: FLOW, or CRM=FLOW (salesforce=jwt, hubspot=refresh_token)."
        ),
    ] = None,
    company: Annotated[str | None, typer.Option(help="The company's name.")] = None,
    currency: Annotated[str | None, typer.Option(help="Its currency, such as EUR.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Its zone, such as Europe/Berlin.")] = None,
) -> None:
    """A first kpisync.yaml from what your CRMs show; asks only what they do not tell."""
    session = session_of(context)
    path = _target(output or session.config_path, is_forced=force)
    asking = _Asking(session, is_silent=yes)
    names = _names(asking, connect or [])
    wanted = _Wanted(domain, _by_crm(names, base_url or [], "--base-url"), _logins(names, login))
    accesses = [_access(asking, KINDS[name], wanted) for name in names]
    accesses = [asking.credentials(access) for access in accesses]
    asking.refuse_if_missing()
    told = _checked(company, currency, timezone)
    began = time.monotonic()
    first = _Beginning(session, accesses, asking.typed)
    draft = _with_company(first, asking, told)
    draft = _with_looks(first, draft, began + SECONDS)
    text = _checked_text(first, draft)
    _write(path, text, is_forced=force)
    _tell(session, path, draft, first, asking, seconds=time.monotonic() - began)


# ---------------------------------------------------------------- what is asked


@dataclass(slots=True)
class _Asking:
    """Questions to a person; where there is none, the options that would have answered them."""

    session: Session
    is_silent: bool
    asked: list[Credential] = field(default_factory=list)
    """Credentials that were typed in and are not kept anywhere."""
    typed: dict[str, str] = field(default_factory=dict)
    """Environment variable -> what was typed in its place."""
    missing: list[str] = field(default_factory=list)

    @property
    def is_possible(self) -> bool:
        """Somebody is there to answer."""
        return not self.is_silent and sys.stdin.isatty()

    def text(self, question: str, otherwise: str) -> str:
        """An answer; without a person an empty text, and what is missing is noted."""
        if self.is_possible:
            return str(typer.prompt(question, err=True)).strip()
        self.missing.append(otherwise)
        return ""

    def credentials(self, access: Access) -> Access:
        """An access with where its credentials are; those that are typed in are kept for now."""
        found = ((one, self._credential(access, one)) for one in access.login.credentials)
        references = {one.key: told.reference for one, told in found if told is not None}
        return replace(access, references=references)

    def _credential(self, access: Access, one: Credential) -> Told | None:
        kind = access.kind
        try:
            held = from_environment(one, self.session.environment)
        except ValueError as error:
            self.missing.append(f"{one.file_variable}: {error}")
            return None
        if held is not None:
            return held
        if not self.is_possible:
            if one.is_needed:
                others = ", ".join(
                    name for name in flows_of(kind.type) if name != access.login.flow
                )
                also = f" or {one.file_variable}" if one.is_file else ""
                self.missing.append(
                    f"{one.variable}{also} is not set in the environment: {one.meaning}"
                    f" ({kind.page}; other ways in: --login {others})"
                )
            return None
        if one.is_file:
            return self._file(kind, one)
        question = f"{kind.label}: {one.meaning} ({one.variable} is not set; used now, not kept)"
        default = None if one.is_needed else ""
        hidden = one.is_secret
        typed = typer.prompt(
            question, default=default, err=True, hide_input=hidden, show_default=False
        )
        if not str(typed).strip():
            return None
        self.asked.append(one)
        self.typed[one.variable] = str(typed).strip()
        return Told(by_variable(one))

    def _file(self, kind: CrmKind, one: Credential) -> Told:
        question = f"{kind.label}: the file that holds {one.meaning} ({one.variable} is not set)"
        while True:
            try:
                return by_file(str(typer.prompt(question, err=True)).strip())
            except ValueError as error:
                self.session.printer.warn(str(error))

    def refuse_if_missing(self) -> None:
        """Name everything that is missing at once.

        Raises:
            CommandError: something is.
        """
        if self.missing:
            listed = "\n".join(f"  {one}" for one in self.missing)
            raise CommandError(
                ExitCode.USAGE,
                f"init cannot ask here, and this is missing:\n{listed}\nNothing was written.",
            )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the options say of how the CRMs are reached."""

    domain: str | None
    addresses: Mapping[str, str]
    logins: Mapping[str, Login]


def _names(asking: _Asking, connect: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(connect))
    if not names:
        answer = asking.text(
            "Which CRMs (salesforce, hubspot, or both)?",
            "--connect salesforce or --connect hubspot (or both): which CRM to look at",
        )
        names = [*KINDS] if answer == "both" else answer.replace(",", " ").split()
    for name in names:
        if name not in KINDS:
            raise CommandError(
                ExitCode.USAGE,
                f'init knows no CRM "{name}". {did_you_mean(name, tuple(KINDS))}'
                " Files and databases are added to the file by hand (docs/files.md, docs/sql.md).",
            )
    return names


def _by_crm(names: Sequence[str], given: Sequence[str], option: str) -> dict[str, str]:
    """What an option says of each CRM: ``CRM=VALUE``, or ``VALUE`` where there is one CRM."""
    found: dict[str, str] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or "://" in name:
            if len(names) != 1:
                raise CommandError(
                    ExitCode.USAGE,
                    f"{option}: say of which CRM: {option} salesforce=... or {option} hubspot=...",
                )
            name, value = names[0], one
        if name not in names:
            raise CommandError(
                ExitCode.USAGE, f'{option}: "{name}" is not connected. {did_you_mean(name, names)}'
            )
        found[name] = value
    return found


def _logins(names: Sequence[str], given: Sequence[str] | None) -> dict[str, Login]:
    found: dict[str, Login] = {}
    for name, flow in _by_crm(names, given or [], "--login").items():
        login = login_of(name, flow)
        if login is None:
            raise CommandError(
                ExitCode.USAGE,
                f'--login: {KINDS[name].label} has no way in called "{flow}". '
                f"{did_you_mean(flow, flows_of(name))} There are: {', '.join(flows_of(name))}.",
            )
        found[name] = login
    return found


def _access(asking: _Asking, kind: CrmKind, wanted: _Wanted) -> Access:
    login = wanted.logins.get(kind.type) or likeliest(kind.type, asking.session.environment)
    url = wanted.addresses.get(kind.type)
    if url is not None:
        return Access(kind, login, base_url=url, host=_host(url))
    domain = wanted.domain
    if login.address_key is None:
        return Access(kind, login)
    if domain is None and login.is_address_needed:
        domain = asking.text(
            "Salesforce's My Domain, without .salesforce.com (acme.my; Setup > My Domain)",
            "--domain: Salesforce's My Domain, such as acme.my (Setup > My Domain)",
        )
    host = (domain or "").removeprefix("https://").partition("/")[0].removesuffix(_SALESFORCE)
    if domain and not _DOMAIN.fullmatch(host):
        raise CommandError(
            ExitCode.USAGE, "--domain takes Salesforce's My Domain, such as acme.my."
        )
    # Where it is missing, nothing comes of it.
    otherwise = "acme.my" if login.is_address_needed else None
    return Access(kind, login, domain=host or otherwise)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = bool(parts.scheme in {"http", "https"} and parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or parts.username or parts.password or parts.hostname is None:
        raise CommandError(
            ExitCode.USAGE, "--base-url takes an address such as http://127.0.0.1:8001."
        )
    return parts.hostname


def _checked(company: str | None, currency: str | None, timezone: str | None) -> dict[str, str]:
    """The options about the company.

    Raises:
        CommandError: one of them cannot be.
    """
    told = {"name": company, "currency": currency, "timezone": timezone}
    found = {key: value for key, value in told.items() if value}
    for key, value in found.items():
        fault = _fault(key, value)
        if fault is not None:
            raise CommandError(ExitCode.USAGE, f"--{key}: {fault}")
    return found


@dataclass(frozen=True, slots=True)
class _Question:
    """What only a person knows of a company whose CRMs do not tell it."""

    text: str
    otherwise: str
    """The option that answers it, for where nobody can be asked."""
    read: Callable[[str], object]


_QUESTIONS: Final[Mapping[str, _Question]] = {
    "currency": _Question(
        "The company's currency (EUR, USD, ...)",
        "--currency: the company's currency, such as EUR (the CRMs do not tell it)",
        read_currency,
    ),
    "timezone": _Question(
        "The company's time zone (Europe/Berlin, America/New_York, ...)",
        "--timezone: the company's time zone, such as Europe/Berlin (the CRMs do not tell it)",
        read_timezone,
    ),
}


def _fault(key: str, text: str) -> str | None:
    """Why a text cannot be the answer; None: it can."""
    if key not in _QUESTIONS:
        return None
    try:
        _QUESTIONS[key].read(text)
    except PydanticCustomError as error:
        return _words(error, text)
    return None


def _asked(asking: _Asking, key: str) -> str:
    question = _QUESTIONS[key]
    answer = asking.text(question.text, question.otherwise)
    fault = _fault(key, answer) if answer else None
    if fault is not None:
        raise CommandError(ExitCode.USAGE, fault)
    return answer


def _words(error: PydanticCustomError, value: str) -> str:
    told = error.context or {}
    message = str(told.get("message", "{value} cannot be used.")).replace("{value}", f'"{value}"')
    return f"{message} {told.get('hint', '')}".strip()


# ---------------------------------------------------------------- looking


class _Beginning:
    """The CRMs as they can be reached before there is a configuration."""

    def __init__(
        self, session: Session, accesses: Sequence[Access], credentials: Mapping[str, str]
    ) -> None:
        self.printer = session.printer
        self.accesses = accesses
        self.environment = {**session.environment, **credentials}
        self.books: dict[str, Books] = {}
        self.calls: dict[str, int] = {}
        self._keeping: Runtime | None = None

    @contextmanager
    def loaded(self, text: str) -> Iterator[Config]:
        """A configuration of this text, from a file that is gone again afterwards."""
        with tempfile.TemporaryDirectory(prefix="kpisync-init-") as folder:
            path = Path(folder) / "kpisync.yaml"
            path.write_text(text, encoding="utf-8")
            config = load(path, self.environment)
            observe.hide(settings.secrets_of(config))
            try:
                yield config
            finally:
                if self._keeping is not None:
                    self._keeping.close()
                    self._keeping = None

    def settings(self, config: Config, name: str) -> ConnectionSettings:
        """A connection that is not patient: somebody sits and waits."""
        plain = settings.connection_settings(config, name, on_wait=self._waiting)
        tuning = replace(
            plain.tuning,
            retry_attempts=3,
            read_timeout=_READ_TIMEOUT,
            total_timeout=_TOTAL_TIMEOUT,
        )
        if any(one.kind.type == name and one.login.is_renewing for one in self.accesses):
            # The credential in the environment may be dead after this: its heir is kept where
            # every later command finds it.
            keeping = self._keeping = self._keeping or open_runtime(config)
            tokens = StoredTokens(lambda: keeping.engine, name, plain.auth, lambda: keeping.leases)
            plain = replace(plain, tokens=tokens)
        return replace(plain, tuning=tuning)

    def _waiting(self, reason: str, seconds: float) -> None:
        if seconds >= _SAID_ALOUD_SECONDS:
            self.printer.say(f"waiting {seconds:.0f} s: {reason}")


def _with_company(first: _Beginning, asking: _Asking, told: Mapping[str, str]) -> Draft:
    """Name, currency and zone: as the options say, else as the first CRM that knows, else asked."""
    draft = Draft(first.accesses, currency="USD", timezone="UTC")
    with first.loaded(first_yaml(draft)) as config:
        for access in first.accesses:
            name = access.kind.type
            first.printer.say(f"{name}: logging in")
            try:
                books, calls = read_books(first.settings(config, name))
            except CannotLook as stop:
                raise _refusal(stop) from None
            first.books[name], first.calls[name] = books, calls
    notes: dict[str, str] = {}
    values: dict[str, str] = {}
    for key in ("name", *_QUESTIONS):
        known = [
            (crm, value)
            for crm, books in first.books.items()
            if (value := getattr(books, key)) and _fault(key, value) is None
        ]
        if key in told:
            values[key] = told[key]
            others = [(crm, value) for crm, value in known if value != told[key]]
        elif known:
            values[key] = known[0][1]
            notes[key] = f"as {known[0][0]} has it"
            others = [(crm, value) for crm, value in known[1:] if value != known[0][1]]
        else:
            others = []
        if others and key != "name":
            listed = "; ".join(f"{crm} has {value}" for crm, value in others)
            notes[key] = f"{notes[key]}; {listed}" if key in notes else listed
    return replace(
        draft,
        company=values.get("name"),
        currency=values.get("currency") or _asked(asking, "currency"),
        timezone=values.get("timezone") or _asked(asking, "timezone"),
        notes=_complete(asking, notes),
    )


def _complete(asking: _Asking, notes: dict[str, str]) -> dict[str, str]:
    asking.refuse_if_missing()
    return notes


def _refusal(stop: CannotLook) -> CommandError:
    problem = stop.problem
    return CommandError(
        ExitCode.FAILED,
        f"{problem.place}: {problem.message} {problem.remedy}\nNothing was written.",
    )


def _with_looks(first: _Beginning, draft: Draft, deadline: float) -> Draft:
    looks: dict[str, CrmLook] = {}
    with first.loaded(first_yaml(draft)) as config:
        for access in first.accesses:
            name = access.kind.type
            try:
                looks[name] = look(
                    first.settings(config, name),
                    first.books[name],
                    written=access.kind.written_object,
                    say=first.printer.say,
                    deadline=deadline,
                )
            except CannotLook as stop:
                raise _refusal(stop) from None
            first.calls[name] += looks[name].calls
    found = replace(draft, looks=looks)
    if not packs_of(found):
        obstacles = [
            f"  {crm}.{one.name}: {one.obstacle or 'empty'}"
            for crm, seen in looks.items()
            for one in seen.streams
        ]
        raise CommandError(
            ExitCode.FAILED,
            "Nothing that KPIs could be computed from can be read:\n"
            + "\n".join(obstacles)
            + "\nNothing was written.",
        )
    return found


def _checked_text(first: _Beginning, draft: Draft) -> str:
    """The text, without KPIs that nothing feeds, after everything that reads it has read it."""
    try:
        with (
            first.loaded(first_yaml(draft)) as config,
            open_runtime(config) as runtime,
        ):
            unfed = unfed_kpis(config, runtime.catalog)
        missing = sorted({stream for streams in unfed.values() for stream in streams})
        text = first_yaml(replace(draft, skip=sorted(unfed), skipped_for=missing))
        with first.loaded(text) as config, open_runtime(config):
            return text
    except ConfigurationError as error:
        raise CommandError(
            ExitCode.FAILED,
            f"What the CRMs showed does not make a valid configuration:\n{error}\n"
            "Nothing was written; please report this with the lines above.",
        ) from None


# ---------------------------------------------------------------- writing


def _target(path: Path, *, is_forced: bool) -> Path:
    if path.is_dir():
        raise CommandError(ExitCode.USAGE, f"{path} is a folder. Name a file with -o FILE.")
    if path.exists() and not is_forced:
        raise CommandError(
            ExitCode.USAGE,
            f"{path} exists and stays as it is. Name another file with -o FILE, or overwrite it"
            " with --force.",
        )
    if not path.parent.is_dir():
        raise CommandError(
            ExitCode.USAGE, f"There is no folder {path.parent} to write {path.name} into. Make it."
        )
    return path


def _write(path: Path, text: str, *, is_forced: bool) -> None:
    """The whole file or none of it; one that appeared meanwhile stays."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as new:
            new.write(text)
        made = Path(new.name)
        try:
            made.chmod(0o644)
            if is_forced:
                made.replace(path)
            else:
                os.link(made, path)
        finally:
            made.unlink(missing_ok=True)
    except FileExistsError:
        raise CommandError(
            ExitCode.USAGE, f"{path} has appeared meanwhile and stays as it is; try -o FILE."
        ) from None
    except OSError as error:
        raise CommandError(
            ExitCode.FAILED, f"{path} cannot be written: {error.strerror or error}."
        ) from None


def _tell(
    session: Session,
    path: Path,
    draft: Draft,
    first: _Beginning,
    asking: _Asking,
    *,
    seconds: float,
) -> None:
    printer = session.printer
    if printer.is_json:
        printer.document(_as_document(path, draft, first, seconds))
        return
    for name, one in draft.looks.items():
        for problem in one.warnings:
            printer.warn(f"{problem.place}: {problem.message} {problem.remedy}")
        printer.table(
            ("stream", "object", "records", "in the file"),
            (
                (look.name, look.object, look.count, "yes" if look.is_useful else "comment")
                for look in one.streams
            ),
            title=f"{name} ({first.calls[name]} API calls)",
            numbers=("records",),
        )
    printer.text(f"\n{path} is written ({seconds:.0f} s); KPIs of {', '.join(packs_of(draft))}")
    _say_where_secrets_go(printer, draft, asking)
    names = [one.kind.writeback for one in draft.accesses]
    printer.text("Next: read it, then")
    printer.text("  kpisync check --online   # log in with it, look at fields and rights")
    printer.text("  kpisync pull             # read the CRMs; then compute, kpi values")
    printer.text(f"  kpisync setup            # create the fields of {' and '.join(names)}")


def _say_where_secrets_go(printer: Printer, draft: Draft, asking: _Asking) -> None:
    for access in draft.accesses:
        if access.login.is_renewing:
            printer.text(
                f"{access.kind.label} may replace the login at every use: the newest is kept,"
                " encrypted, in the database of the file."
            )
    for one in asking.asked:
        printer.text(
            f"Set {one.variable} in the environment of kpisync, or write ${{file:/path}} in its"
            " place: what you typed is kept nowhere."
        )


def _as_document(path: Path, draft: Draft, first: _Beginning, seconds: float) -> dict[str, object]:
    return {
        "file": str(path),
        "seconds": round(seconds, 1),
        "kpis": packs_of(draft),
        "connections": {
            name: {
                "org": one.org_id,
                "calls": first.calls[name],
                "streams": {look.name: look.is_useful for look in one.streams},
                "write_obstacle": one.write_obstacle,
            }
            for name, one in draft.looks.items()
        },
    }

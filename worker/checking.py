"""`check --online`: what a connection's connector finds, and the fields that write-backs name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from config.errors import did_you_mean
from connectors.base import Problem, TargetField
from connectors.errors import ConnectorError, MisconfiguredConnection
from metrics.fitting import misfit
from metrics.writeback import WritebackSpec
from store import approvals, checkpoints
from store.engine import open_store, reading
from store.errors import OrgPinned, StoreError
from store.schema import current_revision, head_revision
from worker.planning import field_names
from worker.runtime import Runtime
from worker.sources import kpis_resting_on

T = TypeVar("T")


def check_connection(runtime: Runtime, connection: str) -> Sequence[Problem]:
    """Log in and look at every mapped object and field and every field to be written.

    Of the database only the org is read that its data came from.
    """
    report = runtime.connector(connection).check()
    if report.org_id is None and not report.is_ok:
        # Nobody is logged in: the fields would all be missing for the same reason.
        return report.problems
    pinned = _pinned_org(runtime, connection)
    if pinned is not None and report.org_id not in {None, pinned}:
        # Whatever else there is to say would be about somebody else's org.
        return [_elsewhere(connection, pinned, str(report.org_id))]
    specs = [spec for spec in runtime.writebacks.values() if spec.connection == connection]
    return [
        *(_with_kpis(runtime, problem) for problem in report.problems),
        *(problem for spec in specs for problem in target_problems(runtime, spec)),
    ]


def _with_kpis(runtime: Runtime, problem: Problem) -> Problem:
    """A stream that is not there is known to people by the KPIs they will miss."""
    if problem.absent_stream is None:
        return problem
    names = kpis_resting_on(runtime.catalog, problem.absent_stream)
    if not names:
        return problem
    told = f"KPIs without values, or without its part of them: {', '.join(names)}."
    return replace(problem, message=f"{problem.message} {told}")


def _pinned_org(runtime: Runtime, connection: str) -> str | None:
    """The org that the stored data came from; None where no store is there to tell."""
    return _from_store(runtime, lambda conn: checkpoints.pinned_org(conn, connection))


def _from_store(runtime: Runtime, ask: Callable[[Connection], T]) -> T | None:
    """What the store knows; None where there is none that could tell.

    Looking creates no database; one that is away or of another version is for `doctor` to name.
    """
    engine = open_store(runtime.config.database)
    try:
        is_file = engine.dialect.name == "sqlite"
        if is_file and not Path(str(engine.url.database)).exists():
            return None
        if current_revision(engine) != head_revision():
            return None
        with reading(engine) as conn:
            return ask(conn)
    except StoreError:
        return None
    finally:
        engine.dispose()


def _elsewhere(connection: str, pinned: str, found: str) -> Problem:
    return Problem(
        place=f"connections.{connection}.auth",
        message=f"{OrgPinned(connection, pinned, found)}.",
        remedy="Until then nothing is read from it and nothing is written to it.",
    )


def target_problems(runtime: Runtime, spec: WritebackSpec) -> Iterator[Problem]:
    """Fields of a write-back that are missing, not writable, of another type, or too short."""
    place = f"writebacks.{spec.name}"
    try:
        found = runtime.target(spec.connection).fields(spec.object)
    except MisconfiguredConnection as error:
        yield Problem(
            place=f"{place}.to",
            message=error.message,
            remedy="Correct the object, or give the connected user access to it.",
        )
        return
    except ConnectorError as error:
        yield Problem(
            place=place, message=error.message, remedy="Try again when the CRM can be reached."
        )
        return
    if _is_untouched(runtime, spec, found):
        yield Problem(
            place=place,
            message=f"None of its fields exists on {spec.object} so far, so nothing is written.",
            remedy=f"`kpisync setup {spec.name}` creates them.",
            is_error=False,
        )
        return
    units = {plan.field: str(runtime.catalog.kpi(plan.kpi).unit) for plan in spec.fields}
    plans = {plan.field: plan for plan in spec.fields}
    for name in field_names(spec):
        field_place = f"{place}.fields.{name}" if name in plans else f"{place}.stamp"
        target = found.get(name)
        if target is None:
            near = _near(name, found)
            hint = f" {near}" if near else ""
            yield Problem(
                place=field_place,
                message=f'"{name}" is not a field of {spec.object} that the connected user'
                f" sees.{hint}",
                remedy=f"Create it with `kpisync setup {spec.name}`, or give the user read and edit"
                " access to it.",
            )
            continue
        if not target.writable:
            yield _not_writable(spec, field_place, target)
        fault = misfit(units[name], plans[name], target) if name in plans else None
        if fault is not None:
            yield Problem(
                place=field_place,
                message=f"{spec.object}.{name}: {fault.words}.",
                remedy="Change the field in the CRM, or choose another one.",
                is_error=fault.is_error,
            )


def _is_untouched(runtime: Runtime, spec: WritebackSpec, found: Mapping[str, TargetField]) -> bool:
    """Nobody has set it up or agreed to it yet: that is the next step, and no fault.

    A name that is nearly one of the object's is a slip of the pen all the same.
    """
    names = field_names(spec)
    return (
        runtime.config.writebacks[spec.name].approve == "first_time"
        and found.keys().isdisjoint(names)
        and not any(_near(name, found) for name in names)
        and not _from_store(runtime, lambda conn: approvals.was_ever_approved(conn, spec.name))
    )


def _near(name: str, found: Mapping[str, TargetField]) -> str:
    """A proposal, where a field of the object has nearly that name."""
    near = did_you_mean(name, tuple(found)) if found else ""
    return near if near.startswith("Did you mean") else ""


def _not_writable(spec: WritebackSpec, place: str, target: TargetField) -> Problem:
    return Problem(
        place=place,
        message=f"{spec.object}.{target.name} may not be written by the connected user.",
        remedy="Give it edit access to the field (`kpisync setup` does so for custom fields); a"
        " field that the CRM computes can never be written.",
    )

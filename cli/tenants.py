"""`darkroom tenants`, `pause`, `resume`, `move`: whose jobs are started, and in which order."""

from typing import Annotated

import typer

from darkroom.cli.errors import UsageFault
from darkroom.cli.options import AsJson, JobIds, OfTenant
from darkroom.cli.screen import Screen, pairs, table
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, JobNotFound
from darkroom.tasks.tenancy import Limits, Paused, TenantUse, limits

app = typer.Typer(help="Shares and limits of tenants.", no_args_is_help=True)

_METAVAR = "MODEL|TENANT"
AreTenants = Annotated[bool, typer.Option("--tenant", help="They are tenants.")]
AreModels = Annotated[bool, typer.Option("--model", help="They are models.")]

HEADS = ("TENANT", "WAIT", "RUN", "WEIGHT", "MAY RUN", "MAY WAIT", "USER RUNS", "USER WAITS", "STATE")
_MOVED = {"moved": "is the next of its tenant", "not_waiting": "does not wait", "not_found": "not found"}


@app.command("list", epilog="Example: darkroom tenants list")
def list_all(*, as_json: AsJson = False) -> None:
    """Tenants of which something is set, and those that have jobs: what waits, what runs, what they may."""
    with Darkroom() as client:
        found = client.tenants()
    rows = [_row(use) for use in found]
    screen = Screen(as_json=as_json)
    if not found:
        screen.note("no tenant has jobs that wait or run, and nothing is set of any")
    shown = table(*HEADS, rows=rows, spare=("USER RUNS", "USER WAITS")) if found else None
    screen.result({"tenants": [use.as_dict() for use in found]}, shown)


@app.command("set", epilog="Example: darkroom tenants set alice --weight 2 --max-running 4 --max-queued 1000")
def set_one(
    name: Annotated[str, typer.Argument(metavar="TENANT", help="Its name.")],
    *,
    weight: Annotated[float | None, typer.Option(help="Of its share beside others; 1 where nothing is set.")] = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs that run at a time.")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Jobs that wait.")] = None,
    user_max_running: Annotated[int | None, typer.Option(help="Jobs of one of its users that run at a time.")] = None,
    user_max_queued: Annotated[int | None, typer.Option(help="Jobs of one of its users that wait.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Take back what was set and is not named here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set a tenant's share and limits; what is not named stays."""
    named = {"weight": weight, "max_running": max_running, "max_queued": max_queued,
             "user_max_running": user_max_running, "user_max_queued": user_max_queued}  # fmt: skip
    given = {option: value for option, value in named.items() if value is not None}
    if not given and not reset:
        raise UsageFault("say what is to be set: --weight, --max-running, --max-queued and others, or --reset")
    with Darkroom() as client:
        before = {} if reset else client.limits_of(name).model_dump(exclude_defaults=True)
        found = limits(**{**before, **given})
        client.set_limits(name, **found.model_dump())
    Screen(as_json=as_json).result({"tenant": name, **found.model_dump()}, pairs([(name, _words(found))]))


def pause(
    names: Annotated[list[str], typer.Argument(metavar=_METAVAR, help="What is paused.")],
    *,
    tenant: AreTenants = False,
    model: AreModels = False,
    as_json: AsJson = False,
) -> None:
    """Start nothing more of a tenant, or with a model; what runs goes on, and deadlines hold."""
    _switch("pause", names, tenant=tenant, model=model, as_json=as_json)


def resume(
    names: Annotated[list[str], typer.Argument(metavar=_METAVAR, help="What goes on.")],
    *,
    tenant: AreTenants = False,
    model: AreModels = False,
    as_json: AsJson = False,
) -> None:
    """Let what was paused go on."""
    _switch("resume", names, tenant=tenant, model=model, as_json=as_json)


def move(
    job_ids: JobIds,
    *,
    front: Annotated[bool, typer.Option("--front", help="Before all others of its tenant.")] = False,
    tenant: OfTenant = None,
    as_json: AsJson = False,
) -> int:
    """Change the place of jobs that wait."""
    if not front:
        raise UsageFault("say where to: --front")
    with Darkroom() as client:

        def told(job_id: str) -> Done:
            outcome = client.move_to_front(job_id, tenant=tenant)
            return Done(_MOVED[outcome], {"outcome": outcome}, 0 if outcome == "moved" else JobNotFound.exit_code)

        return one_by_one(Screen(as_json=as_json), job_ids, told, failed={"outcome": None})


def _switch(verb: str, names: list[str], *, tenant: bool, model: bool, as_json: bool) -> None:
    if tenant and model:
        raise UsageFault("--tenant or --model, not both")
    told = []
    with Darkroom() as client:
        served = {offer.name for offer in client.models().offers.values()} if not (tenant or model) else set()
        for name in names:
            what: Paused = "model" if model or (not tenant and name in served) else "tenant"
            client.pause(what, name) if verb == "pause" else client.resume(what, name)
            told.append({"what": what, "name": name})
    words = ", ".join(f"{one['what']} {one['name']}" for one in told)
    Screen(as_json=as_json).result({verb + "d": told}, f"{verb}d: {words}")


def _row(use: TenantUse) -> tuple[object, ...]:
    found = use.limits or Limits()
    able = (found.max_running, found.max_queued, found.user_max_running, found.user_max_queued)
    state = "paused" if use.paused else "" if use.limits else "its limits cannot be read: set them anew"
    return (
        use.name,
        use.queued,
        use.running,
        f"{found.weight:g}",
        *("-" if one is None else one for one in able),
        state,
    )


def _words(found: Limits) -> str:
    named = {name: value for name, value in found.model_dump().items() if value is not None}
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in named.items())

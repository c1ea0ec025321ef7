"""Commands about jobs that were submitted: watch, status, list, delete."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from darkroom.cli.follow import Teller, events, goes_on, interruptible, sample_in_words
from darkroom.cli.options import AsJson, Before, JobId, JobIds
from darkroom.cli.screen import Screen, duration, pairs, some, table
from darkroom.cli.several import Done, one_by_one
from darkroom.tasks import Darkroom, Job, JobFailed, State, TaskSettings
from darkroom.tasks.job import Jobs
from darkroom.tasks.operations import Position
from darkroom.tasks.redis_io import BlockingIO

PAGE = 100
#: Columns of a list, and the narrowest line that has them.
_COLUMNS = {"ID": 0, "STATE": 0, "MODEL": 120, "KIND": 120, "AGE": 80, "DONE": 80, "PROMPT": 0}


def watch(
    job_id: JobId,
    *,
    after: Annotated[str | None, typer.Option(metavar="EVENT", help="Only what came after this event id.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to watch at most.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show a job's events from the start, then live, to its end. Exits 0 if it succeeded, 8 if it did not."""
    screen, state, teller = Screen(as_json=as_json), None, Teller()
    io = BlockingIO(TaskSettings())
    try:
        with interruptible() as check:
            for event in events(io, job_id, after=after, timeout=timeout, previews=as_json, check=check):
                if as_json:
                    screen.line(event.as_dict())
                else:
                    screen.say(f"{event.id}  {_clock(event.when)}  {teller.line(event)}")
                state = event.type if event.terminal else None
    except KeyboardInterrupt:
        screen.note(goes_on(job_id))
        raise
    finally:
        io.close()
    if state is None:  # `after` was the last event
        with Darkroom() as client:
            state = f"job.{client.get(job_id).state}"
    return 0 if state == "job.succeeded" else JobFailed.exit_code


def status(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Show what is known of a job: state, place in the queue, seeds, pictures, files, times, why it failed."""
    screen = Screen(as_json=as_json)
    with Darkroom() as client:
        job = client.get(job_id)
        position = client.position(job_id) if job.state is State.QUEUED else None
    place = position._asdict() if position else None
    screen.result({**as_document(job), "position": place}, _details(job, position))


def list_jobs(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Only in this state; repeat it for more.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first. With --json a line each."""
    screen = Screen(as_json=as_json)
    with Darkroom() as client:
        jobs: list[Job] = []
        for page in pages(client, limit, before, tenant=tenant, state=state or None):
            note_unreadable(screen, page)
            if not as_json:
                jobs += page
                continue
            for job in page:
                screen.line(as_document(job))
    if as_json:
        return
    if not jobs:
        screen.note("no jobs")
        return
    screen.result({}, jobs_table(jobs, screen.out.width))
    if len(jobs) == limit:
        screen.note(f"older ones: --before {jobs[-1].id}")


def delete(job_ids: JobIds, *, as_json: AsJson = False) -> int:
    """Delete jobs that have ended, with their pictures, files, manifests and events."""
    with Darkroom() as client:

        def deleted(job_id: str) -> Done:
            client.delete(job_id)
            return Done("deleted", {"deleted": True})

        return one_by_one(Screen(as_json=as_json), job_ids, deleted, failed={"deleted": False})


def as_document(job: Job) -> dict[str, Any]:
    """A job as JSON has it: the record, and what follows from it."""
    return {**job.model_dump(mode="json"), "seeds": job.seeds, "warnings": job.warnings}


def note_unreadable(screen: Screen, jobs: Jobs) -> None:
    """Says which jobs are not in a list for what their records are."""
    if jobs.unreadable:
        ids = some(jobs.unreadable)
        screen.note(f"left out, with records that cannot be read (`darkroom status ID` says why): {ids}")


def pages(client: Darkroom, limit: int, before: str | None = None, **wanted: Any) -> Iterator[Jobs]:
    """Jobs, newest first, as many as there are up to the limit."""
    while limit > 0:
        asked = min(limit, PAGE)
        page = client.jobs(limit=asked, before=before, **wanted)
        yield page
        if len(page) < asked:
            return
        limit, before = limit - len(page), page[-1].id


def jobs_table(jobs: Iterable[Job], width: int) -> RenderableType:
    """A line a job, with the columns for which so many characters have room beside the prompt."""
    rows = ([cell for cell, least in zip(_row(job), _COLUMNS.values(), strict=True) if width >= least] for job in jobs)
    return table(*(name for name, least in _COLUMNS.items() if width >= least), rows=rows)


def _row(job: Job) -> tuple[object, ...]:
    pictures = {image.index for image in job.images if image.step is None}
    done = pictures | {file.index for file in job.files} - {None}  # or a file alone
    made = f"{len(done)}/{job.request.pieces}"
    if job.state is State.RUNNING and job.progress:
        made += f" {job.progress.step}/{job.progress.of}"
    prompt = " ".join(job.request.title.split())[:60]
    return job.id, job.state, job.model, job.kind, _age(job.created_at), made, prompt


def _details(job: Job, position: Position | None) -> RenderableType:
    request, result = job.request, job.result
    asked = request.model_dump(exclude={"prompt", "seeds", "seed", "model", "kind", "metadata", "tenant", "lane"})
    rows: list[tuple[str, object]] = [
        ("id", job.id),
        ("state", _state(job, position)),
        ("model", f"{job.model}, {job.kind}"),
        ("prompt", getattr(request, "prompt", "")),
        ("request", ", ".join(f"{name} {value}" for name, value in asked.items() if value is not None)),
        ("tenant, lane", f"{job.tenant}, {job.lane}"),
        ("seeds", ", ".join(map(str, dict.fromkeys(job.seeds)))),
        ("times", _times(job)),
        ("claims", f"{job.claims}, failures {job.failures}" + (f", by {job.worker}" if job.worker else "")),
    ]
    rows += [("needs", ", ".join(job.needs))] if job.needs else []
    rows += [("metadata", job.metadata)] if job.metadata else []
    rows += [("warning", warning) for warning in job.warnings]
    words = results_in_words(job)
    rows += [("image", f"{one.key}  {next(words)}  {one.bytes} bytes") for one in job.images]
    rows += [("file", f"{file.key}  {next(words)}") for file in job.files]
    rows += [("manifest", result.manifest)] if result else []
    rows += [("seconds", ", ".join(f"{k} {v:.3g}" for k, v in result.timings.items()))] if result else []
    rows += [("error", f"{job.error.code}: {job.error.message}")] if job.error else []
    rows += [("what to do", job.error.hint)] if job.error and job.error.hint else []
    return pairs([(name, value) for name, value in rows if value != ""])  # some kinds have no prompt, or no seeds


def results_in_words(job: Job) -> Iterator[str]:
    """What each picture, then each file, is, beside its key or path; a seed that several share is told once."""
    drawn, before = bool(job.seeds), None
    for image in job.images:
        sample = f"  {sample_in_words(image.step, image.prompt)}" if image.step is not None else ""
        seed = f"  seed {image.seed}" if drawn and image.seed != before else ""
        yield f"{image.width}x{image.height}{seed}{sample}"
        before = image.seed
    # a kind that draws nothing by lot makes one thing, which needs no number, and samples are not what it makes
    numbered = drawn and all(image.step is None for image in job.images)
    for file in job.files:
        of = f" of image {file.index}" if numbered and file.index is not None else ""
        yield f"{file.role}{of}  {file.bytes} bytes"


def _state(job: Job, position: Position | None) -> str:
    words = str(job.state)
    if position is not None:
        words += f", about {position.jobs} before it"
        words += f", {duration(position.seconds)}" if position.seconds else ""
    if job.state is State.RUNNING and job.progress:
        words += f", image {job.progress.image}: step {job.progress.step} of {job.progress.of}"
    return f"{words}, to be canceled" if job.cancel_requested and not job.state.final else words


def _times(job: Job) -> str:
    named = (("created", job.created_at), ("started", job.started_at), ("ended", job.ended_at))
    return ", ".join(f"{name} {moment.astimezone():%Y-%m-%d %H:%M:%S}" for name, moment in named if moment)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _age(moment: datetime) -> str:
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"

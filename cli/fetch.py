"""`darkroom fetch`: what a job has made so far, as files of this machine."""

from collections.abc import Collection
from typing import Annotated

import typer

from darkroom.cli.errors import UsageFault
from darkroom.cli.jobs import results_in_words
from darkroom.cli.options import AsJson, JobId
from darkroom.cli.pictures import Target, folder_named
from darkroom.cli.screen import Screen, some
from darkroom.tasks import Darkroom, Job, JobNotFound

EXAMPLES = """Examples:

darkroom fetch ID --save pictures/

darkroom fetch ID --file snapshot_120
"""

Roles = Annotated[
    list[str] | None, typer.Option(metavar="ROLE", help="Only files of this role, such as lora; repeat it for more.")
]


def fetch(
    job_id: JobId,
    *,
    save: Annotated[str, typer.Option(metavar="DIR", help="The folder for them; made if it is not there.")] = ".",
    file: Roles = None,
    as_json: AsJson = False,
) -> int:
    """Save pictures and files that a job has made so far, whether or not it has ended. Exits 7 where there are none."""
    screen = Screen(as_json=as_json)
    folder = folder_named(save)
    with Darkroom() as client:
        job = _only(client.get(job_id), file or ())
        paths = [str(path) for path in Target(folder).save(job.images, job.files)]
    if as_json:
        screen.line({"id": job.id, "saved": paths})
    for path, words in zip(paths, results_in_words(job), strict=True):
        screen.say(f"{path}  {words}")
    if not paths:
        screen.note(f"{job.state}: the job has made nothing yet")
    return 0 if paths else JobNotFound.exit_code


def _only(job: Job, roles: Collection[str]) -> Job:
    """The job with the files of these roles alone, of none: with all. Raises UsageFault for a role that it lacks."""
    if not roles:
        return job
    there = dict.fromkeys(one.role for one in job.files)
    if missing := [role for role in roles if role not in there]:
        hint = f"it has {', '.join(there)}" if there else "it has none yet"
        raise UsageFault(f"--file {some(missing)}: the job has no such file", hint=hint)
    return job.model_copy(update={"images": [], "files": [one for one in job.files if one.role in roles]})

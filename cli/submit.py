"""`darkroom submit`: one job with all of its fields, or a file of them."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from darkroom.cli import bulk
from darkroom.cli.errors import UsageFault
from darkroom.cli.fields import given_fields, takes_fields
from darkroom.cli.follow import events, follower, goes_on, interruptible
from darkroom.cli.jobs import results_in_words
from darkroom.cli.options import AsJson
from darkroom.cli.pictures import Target, format_of, with_upload
from darkroom.cli.requests import with_kind
from darkroom.cli.screen import Screen
from darkroom.storage import open_store
from darkroom.tasks import Darkroom, Event, Job, State, Submitted, TaskSettings, WaitTimeout
from darkroom.tasks.redis_io import BlockingIO
from darkroom.tasks.requests import KINDS

EXAMPLES = """Examples:

darkroom submit "a large red star on a blue background" --wait --save star.png

darkroom submit "a yellow star on a purple background" --image star.png --strength 0.8 --seed 7

darkroom submit "a green star" --image star.png --mask mask.png --wait --save green.png

darkroom submit "a purple background" --image star.png --extend left=64,right=64 --wait --save wide.png

darkroom submit "a red star" --hires scale=1.5,strength=0.4 --wait --save large.png

darkroom submit "a red star" --prompt-to "a yellow moon" --frames 8 --wait --save frames/

darkroom submit --from-file jobs.jsonl --lane bulk
"""

EXIT_JOB_FAILED = 8
_WORDS = {
    "no_worker": "no worker serves {model} now: the job waits until one does",
    "prompt_truncated": "the prompt is longer than the text encoder reads: its end is ignored",
    "guidance_rescale_ignored": "with a guidance scale of at most 1 there is nothing to rescale",
    "source_cropped": "the model makes no picture as long as the source: a part of it was cut off at both ends",
    "no_steps": "none of the steps is left for {model} to make",
    "no_hires_steps": "none of the steps is left for the second pass: the picture is only scaled up",
    "hires_from_noise": "at strength 1 the second pass begins with noise alone: only the size is left of the first",
    "refiner_ignored": "no step lies behind the refiner's start: it made nothing",
    "denoising_end_ignored": "no step lies behind denoising_end: nothing is left out",
    "lora_text_ignored": "the embeddings are encoded: what the LoRA changes of the text encoders has no say",
    "lora_hidden": "the catalogue has a LoRA of this name: your jobs that name it will get yours",
    "prodigy_rate": "prodigy finds the learning rate itself and multiplies it with yours: 1 is what it wants",
    "negative_prompt_ignored": "with a guidance scale of at most 1 the negative prompt has no say",
}

_Text = str | None


@takes_fields
def submit(
    prompt: Annotated[_Text, typer.Argument(help="What to make; - reads JSON lines from standard input.")] = None,
    *,
    kind: Annotated[_Text, typer.Option(help=f"{', '.join(KINDS)}; default: by the other options.")] = None,
    from_file: Annotated[_Text, typer.Option(metavar="FILE", help="JSON lines, a request each; - is stdin.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress and end with the job.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to wait; implies --wait.")] = None,
    save: Annotated[_Text, typer.Option(metavar="PATH", help="A file or folder/ for results; implies --wait.")] = None,
    as_json: AsJson = False,
    **fields: Any,
) -> int:
    """Submit a job, and print its id. With --wait: follow it to its end, and save its pictures and files."""
    screen, fields = Screen(as_json=as_json), given_fields({"prompt": prompt, "kind": kind, **fields})
    wait = wait or timeout is not None or save is not None
    source = from_file or ("-" if prompt == "-" else None)
    if source is not None:
        _check_bulk(prompt, wait=wait)
        fields.pop("prompt", None)
        return bulk.submit_file(source, fields, screen)
    if not fields:
        raise UsageFault("nothing to submit", hint='give a prompt: darkroom submit "a large red star"')
    fields = with_kind(fields)
    if save is not None and (form := format_of(save, fields)):
        fields["output_format"] = form
    target = Target(save) if save is not None else None
    if target:
        open_store()  # a store that is not there is told of before the work, not after it
    with Darkroom() as client:
        handle = client.submit(with_upload(fields, client))
        if not wait:
            show_submitted(handle.submitted, screen)
            return 0
        introduce(handle.submitted, screen)
        job = followed(client, handle.submitted, timeout, screen)
        return _finish(job, target, screen)


def _check_bulk(prompt: str | None, *, wait: bool) -> None:
    if prompt not in (None, "-"):
        raise UsageFault("a prompt and a file at once", hint="the lines of the file have their own prompts")
    if wait:
        raise UsageFault("a file of jobs is not waited for", hint="`darkroom list` shows how they get on")


def show_submitted(submitted: Submitted, screen: Screen) -> None:
    """For who does not wait."""
    if screen.as_json:
        screen.line(submitted.as_dict())
    else:
        introduce(submitted, screen)


def introduce(submitted: Submitted, screen: Screen) -> None:
    """The id where a script reads it, the rest beside it."""
    if not screen.as_json:
        screen.say(submitted.id)
    again = ", the job that was there already" if submitted.repeated else ""
    screen.note(f"{submitted.model}{_seeds(submitted.seeds)}{again}")
    tell_warnings(submitted.warnings, submitted.model, screen)


def tell_warnings(warnings: Iterable[str], model: str, screen: Screen) -> None:
    """In words; what a worker says in words of its own as it is."""
    for warning in warnings:
        words = _WORDS[warning].format(model=model) if warning in _WORDS else warning
        screen.note(f"note: {words}")


def _seeds(seeds: list[int]) -> str:
    own = list(dict.fromkeys(seeds))  # frames share theirs
    return f", seed{'s' if len(own) > 1 else ''} {', '.join(map(str, own))}" if own else ""


def followed(
    client: Darkroom,
    submitted: Submitted,
    timeout: float | None,
    screen: Screen,
    seen: Callable[[Event], object] = lambda _event: None,
) -> Job:
    """The job when it has ended. `seen` is given each event, too."""
    io = BlockingIO(TaskSettings())
    try:
        with (
            interruptible() as check,
            follower(screen.err, max(1, len(submitted.seeds)), submitted.model, screen.note) as shown,
        ):
            for event in events(io, submitted.id, timeout=timeout, check=check):
                shown.tell(event)
                seen(event)
        return client.get(submitted.id)
    except WaitTimeout as error:
        raise WaitTimeout(error.message, hint=f"it goes on: darkroom watch {submitted.id}") from None
    except KeyboardInterrupt:
        screen.note(goes_on(submitted.id))
        raise
    finally:
        io.close()


def _finish(job: Job, target: Target | None, screen: Screen) -> int:
    """Saves and shows what became of the job; returns the exit code."""
    paths = target.save(job.images, job.files) if target else []
    if screen.as_json:
        document: dict[str, Any] = job.model_dump(mode="json")
        screen.line({**document, "seeds": job.seeds, "warnings": job.warnings, "saved": [str(path) for path in paths]})
    else:
        keys = [*(image.key for image in job.images), *(file.key for file in job.files)]
        for place, words in zip(paths or keys, results_in_words(job), strict=True):
            screen.say(f"{place}  {words}")
        tell_warnings(set(job.warnings) - set(job.submit_warnings), job.model, screen)
        job.raise_for_state()
    return 0 if job.state is State.SUCCEEDED else EXIT_JOB_FAILED

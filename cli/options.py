"""Options that several commands have."""

import os
from typing import Annotated

import typer

from darkroom.tasks.job import canonical_id
from darkroom.worker.settings import WorkerSettings


def _an_id(text: str) -> str:
    """An id as the record has it."""
    if not text.strip() or not text.isprintable():
        raise typer.BadParameter("an id is empty, or no text")
    return canonical_id(text)


AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output, errors included.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.", parser=_an_id)]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", parser=_an_id)]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Jobs of others are not found.")]
AnyJobIds = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids of jobs.", parser=_an_id)]
Before = Annotated[
    str | None, typer.Option(metavar="ID", help="Only older than this job: the next page.", parser=_an_id)
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")]
Memory = Annotated[
    str | None, typer.Option(help="full, vae_tiling, attention_slicing, model_offload or sequential_offload.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads of the model's calls; 0: all cores.")]
Catalogue = Annotated[str | None, typer.Option(metavar="FILE", help="Your own catalogue file.")]
ModelsDir = Annotated[str | None, typer.Option("--models-dir", metavar="DIR", help="Where pulled models lie.")]


def worker_settings(catalogue: str | None, models_dir: str | None) -> WorkerSettings:
    """With what the options say of catalogue and models."""
    set_environment(catalogue=catalogue, models_dir=models_dir)
    return WorkerSettings()


def set_environment(**options: object) -> None:
    """Options as this process's DARKROOM_ variables, where the settings are read; None leaves a variable alone."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"DARKROOM_{name.upper()}"] = str(value)

"""Options that several commands have."""

import os
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output, errors included.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
JobIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str | None, typer.Option(help="auto, float32, float16 or bfloat16.")]
Memory = Annotated[
    str | None, typer.Option(help="full, vae_tiling, attention_slicing, model_offload or sequential_offload.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads of the model's calls; 0: all cores.")]
Catalogue = Annotated[str | None, typer.Option(metavar="FILE", help="Your own catalogue file.")]
ModelsDir = Annotated[str | None, typer.Option("--models-dir", metavar="DIR", help="Where pulled models lie.")]


def set_environment(**options: object) -> None:
    """Options as this process's DARKROOM_ variables, where the settings are read; None leaves a variable alone."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"DARKROOM_{name.upper()}"] = str(value)

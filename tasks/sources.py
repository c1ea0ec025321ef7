"""Where the weights of a catalogue's entries come from."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkroom.tasks.families import ModelName


class Strict(BaseModel):
    """A part of a catalogue: nothing that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class HubSource(Strict):
    """A public repository on the Hugging Face hub; revision and digests are pinned at the first pull."""

    type: Literal["hub"] = "hub"
    repo: str
    revision: str = "main"
    variant: str | None = Field(default=None, description="such as fp16: files named *.fp16.safetensors")


class FolderSource(Strict):
    """A local folder in the diffusers layout (`model_index.json` and a folder per component)."""

    type: Literal["folder"] = "folder"
    path: Path


class BundledSource(Strict):
    """A model that comes with the worker: its weights lie in the installed package."""

    type: Literal["bundled"] = "bundled"
    name: ModelName


class FileSource(Strict):
    """One `.safetensors` file with all weights, and a folder with the configs and tokenizers it lacks."""

    type: Literal["file"] = "file"
    path: Path
    config: Path

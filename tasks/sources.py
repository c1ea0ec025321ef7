"""Where the weights of a catalogue's entries come from."""

from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from darkroom.tasks.families import ModelName

SHA256 = r"^[0-9a-f]{64}$"


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
    """What comes with the worker: its weights lie in the installed package."""

    type: Literal["bundled"] = "bundled"
    name: ModelName


class FileSource(Strict):
    """One `.safetensors` file with all weights, and a folder with the configs and tokenizers it lacks."""

    type: Literal["file"] = "file"
    path: Path
    config: Path


def _safe_format(path: PurePath) -> PurePath:
    if path.suffix != ".safetensors":
        raise ValueError("is no .safetensors file: other formats can run code when they are loaded")
    return path


def _within(name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ValueError("leads out of the repository")
    return str(PurePosixPath(name))


def _inside(name: str) -> str:
    return str(_safe_format(PurePosixPath(_within(name))))


class WeightsHubSource(Strict):
    """One file of a public repository on the Hugging Face hub; commit and digest are pinned at the first pull."""

    type: Literal["hub"] = "hub"
    repo: str
    file: Annotated[str, AfterValidator(_inside)]
    revision: str = "main"


class WeightsFileSource(Strict):
    """One `.safetensors` file of this machine."""

    type: Literal["file"] = "file"
    path: Annotated[Path, AfterValidator(_safe_format)]


class StyleHubSource(WeightsHubSource):
    """A style adapter's file, and the folder of its image encoder in the same repository."""

    image_encoder: Annotated[str, AfterValidator(_within)]


class StyleFileSource(WeightsFileSource):
    """A style adapter's file on this machine, and the folder of its image encoder."""

    image_encoder: Path

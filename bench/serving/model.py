"""The model that all sides serve, and what is known of it; made by `bench.serving.prepare`."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from darkroom.tasks.catalogue import ModelEntry


class Model(BaseModel):
    """`folder` is in the diffusers layout; `device` and `dtype` are those that Darkroom's worker would choose.

    `ceiling` is the rate of a large matrix product in that dtype, `work` the TFLOP of one picture by `WxHxSTEPS`,
    `loras` are files of random LoRAs for it.
    """

    model_config = ConfigDict(frozen=True)

    entry: ModelEntry
    folder: Path
    variant: str | None
    device: str
    dtype: str
    ceiling: float | None = None
    work: dict[str, float] = {}
    loras: tuple[Path, ...] = ()


class Wish(BaseModel):
    """What is to be prepared. `shapes` are (width, height, steps) to count the work of; empty: nothing is measured.

    `loras`: how many random ones.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    cache: Path
    device: str
    threads: int = 0
    catalogue: Path | None = None
    shapes: tuple[tuple[int, int, int], ...] = ()
    loras: int = 0


def shape_name(width: int, height: int, steps: int) -> str:
    """The key in `Model.work`."""
    return f"{width}x{height}x{steps}"

"""Makes a model ready, in a process of its own: this needs torch, the measuring client does not.

`python -m bench.serving.prepare WISH`, both in JSON; prints the Model as its last line.
"""

import os
import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from bench.loras.files import transformers, write_lora
from bench.serving.geometry import SD15, SDXL, Geometry, write_random
from bench.serving.model import Model, Wish, shape_name
from bench.serving.work import matmul_tflops, picture_tflop
from darkroom.tasks.catalogue import Defaults, Family, FolderSource, HubSource, ModelEntry, load_catalogue
from darkroom.worker.models.device import Placement, choose_placement
from darkroom.worker.models.sources import find_layout
from darkroom.worker.models.tiny import make_tiny, tiny_entry
from darkroom.worker.settings import WorkerSettings

RANDOM = {"random-sdxl": SDXL, "random-sd": SD15}
TINY: dict[str, Family] = {"tiny-sdxl": "sdxl", "tiny-sd": "sd"}


def prepare(wish: Wish) -> Model:
    """The model written if it is not there yet, and measured. Raises ModelError where its files are not there."""
    placement = choose_placement(WorkerSettings(device=wish.device, threads=wish.threads))
    torch.set_num_threads(placement.threads)
    entry, folder = _find(wish, placement)
    return Model(
        entry=entry,
        folder=folder,
        variant=entry.source.variant if isinstance(entry.source, HubSource) else None,
        device=str(placement.device),
        dtype=str(placement.dtype).removeprefix("torch."),
        ceiling=matmul_tflops(str(placement.device), placement.dtype) if wish.shapes else None,
        loras=_loras(wish, folder),
        work={shape_name(*shape): picture_tflop(folder, *shape) for shape in wish.shapes},
    )


def _loras(wish: Wish, folder: Path) -> tuple[Path, ...]:
    """As sd-scripts makes them unless told otherwise, but of rank 32."""
    if not wish.loras:
        return ()
    with torch.device("meta"):
        denoiser = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    paths = tuple(wish.cache / f"{wish.name}-loras" / f"lora-{number}.safetensors" for number in range(wish.loras))
    paths[0].parent.mkdir(exist_ok=True)
    return tuple(write_lora(path, denoiser, transformers, 32, seed) for seed, path in enumerate(paths))


def _find(wish: Wish, placement: Placement) -> tuple[ModelEntry, Path]:
    folder = wish.cache / wish.name
    if wish.name in TINY:
        family = TINY[wish.name]
        there = (folder / "model_index.json").is_file()
        return (tiny_entry if there else make_tiny)(family, folder), folder
    if wish.name in RANDOM:
        geometry = RANDOM[wish.name]
        if not (folder / "model_index.json").is_file():
            write_random(geometry, folder, str(placement.device), placement.dtype)
        return _random_entry(wish.name, geometry, folder), folder
    settings = WorkerSettings(catalogue=wish.catalogue)
    found = load_catalogue(settings.catalogue)
    if wish.name not in found:
        sys.exit(f"no model {wish.name!r}; there are: {', '.join([*TINY, *RANDOM, *found])}")
    return found[wish.name], find_layout(found[wish.name], settings).configs


def _random_entry(name: str, geometry: Geometry, folder: Path) -> ModelEntry:
    scheduler = "pndm" if geometry.family == "sd" else "euler"
    side = geometry.unet["sample_size"] * 8
    return ModelEntry(
        name=name,
        family=geometry.family,
        source=FolderSource(path=folder),
        defaults=Defaults(width=side, height=side, num_inference_steps=30, guidance_scale=5.0, scheduler=scheduler),
        schedulers=[scheduler],
    )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(prepare(Wish.model_validate_json(sys.argv[1])).model_dump_json())

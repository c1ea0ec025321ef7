"""Every kind of job by every family of models in every memory mode, as docs/11-kinds.md tells of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from safetensors.torch import load

from darkroom.tasks.catalogue import Family, ModelEntry
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.caches import Cache
from darkroom.worker.images.generate import Generator
from darkroom.worker.kinds.products import Produced
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.settings import MemoryMode, WorkerSettings
from tests.pairs import ABILITIES, EMBEDS, KIND_ABILITIES, LATENTS, MASK, PICTURE, Ability, asked, foreign
from tests.styles import in_processors
from tests.unit.worker.adapters.stocked import stocked
from tests.unit.worker.conftest import ignore, photo
from tests.unit.worker.kinds.painting import file_of, spot

#: The table's columns: families, and a model for inpainting (of SDXL's structure).
Sort = Family | Literal["9 channels"]
SORTS: tuple[Sort, ...] = (*get_args(Family), "9 channels")

MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)
CPU = torch.device("cpu")

REFINER = Ability("refiner", {"refiner": {"model": "tiny-sdxl-refiner", "start": 0.5}})
ADDED = ("stylize", "stylize a picture", "LoRA", "embeddings", "latents out", "hires")
#: The table's rows.
ROWS = {one.name: one for one in (*KIND_ABILITIES, *(one for one in ABILITIES if one.name in ADDED), REFINER)}

#: A model for inpainting and a refiner have no style, and where attention is cut into slices nobody has one.
STYLED: tuple[Sort, ...] = ("sdxl", "playground", "sd")

#: What a wish without a kind of its own is for, where a model makes no pictures from a prompt alone.
_BASES: Mapping[Sort, Ability] = {"sdxl-refiner": ROWS["img2img"], "9 channels": ROWS["inpaint"]}
_ENDINGS = {PICTURE: "png", MASK: "png", LATENTS: "safetensors", EMBEDS: "safetensors"}
_SIZE = {"width": 32, "height": 32}
_WORDS = {"prompt": "a red fox", "negative_prompt": "a dog", "num_inference_steps": 3, "guidance_scale": 4.0, "seed": 1}

_PAGE = Path(__file__).parents[1] / "docs" / "11-kinds.md"


def told(first: str) -> dict[tuple[str, str], str]:
    """The cells of a table in docs/11-kinds.md, whose first cell has this text, by row and column."""
    lines = dropwhile(lambda line: not line.startswith(f"| {first} |"), _PAGE.read_text().splitlines())
    table = takewhile(lambda line: line.startswith("|"), lines)
    (_, *columns), _, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in table)
    return {(name, column): cell for name, *cells in rows for column, cell in zip(columns, cells, strict=True)}


@dataclass
class Models:
    """Tiny models of every sort with LoRAs and styles, loaded in any mode when first asked for, on one engine."""

    entries: Mapping[Sort, ModelEntry]
    engine: Engine
    folder: Path  # for LoRAs and style adapters
    device: torch.device = CPU
    _loaded: dict[tuple[Sort, MemoryMode], Generator] = field(default_factory=dict)

    def of(self, sort: Sort, mode: MemoryMode) -> Generator:
        """Past `choose_placement`, which has the offload modes on CUDA alone: their hooks work on any device."""
        if (sort, mode) not in self._loaded:
            model = load_model(self.entries[sort], Placement(self.device, torch.float32, mode, 1), WorkerSettings())
            styled = sort in STYLED and mode != "attention_slicing"
            styles = in_processors(model, self.folder / sort, self.engine) if styled else None
            self._loaded[sort, mode] = stocked(model, self.engine, self.folder, styles=styles)
        return self._loaded[sort, mode]

    def parts(self, mode: MemoryMode) -> list[torch.nn.Module]:
        """The modules of all that were loaded so."""
        found = [generator.model for (_, loaded), generator in self._loaded.items() if loaded == mode]
        return [model.components[name] for model in found for name in model.family.modules]

    def make(self, row: str, sort: Sort, mode: MemoryMode, **more: Any) -> list[Produced]:
        """All that such a job makes, its words read anew. Raises InvalidRequest as submitting it would."""
        fields = self._wish(row, sort, **more)
        stands = {name: value for name, value in fields.items() if isinstance(value, str) and value in _ENDINGS}
        keys: dict[str, Any] = {name: f"inputs/default/{name}.{_ENDINGS[value]}" for name, value in stands.items()}
        if "styles" in fields:
            keys["styles"], stands["styles.0.image"] = ["inputs/default/style.png"], PICTURE
        offers = {entry.name: entry for entry in (self.of(sort, "full").entry for sort in SORTS)}
        request = resolve({**fields, **keys}, offers, lambda: None).filled
        generators = {generator.entry.name: generator for generator in self._together(row, sort, mode)}
        for generator in generators.values():
            generator.embeddings = Cache()
        generator = generators[fields["model"]]
        prepared = generator.prepare(request, generators)
        sources = prepared.kind.read(prepared, {name: self._input(value, sort) for name, value in stands.items()})
        return [generator.generate(prepared.piece(index), 1, sources, ignore, Ticket(solo=True))
                for index in range(request.pieces)]  # fmt: skip

    def _wish(self, row: str, sort: Sort, **more: Any) -> dict[str, Any]:
        """The fields; inputs are named by what stands for them."""
        based = [_BASES[sort]] if sort in _BASES and not ROWS[row].kind else []
        fields = asked(*based, ROWS[row])
        small = _WORDS if "image" in fields else {**_WORDS, **_SIZE}
        if "prompt_embeds" in fields:
            small = {name: value for name, value in small.items() if name != "negative_prompt"}
        if "refiner" in fields and sort == "sdxl-refiner":
            fields["refiner"] = {**fields["refiner"], "model": "tiny-sdxl"}
        small = {name: value for name, value in small.items() if not foreign({"kind": fields["kind"], name: value})}
        return {**small, **fields, **more, "model": self.entries[sort].name}

    def _together(self, row: str, sort: Sort, mode: MemoryMode) -> list[Generator]:
        other: Sort = "sdxl" if sort == "sdxl-refiner" else "sdxl-refiner"
        return [self.of(one, mode) for one in ([sort, other] if row == "refiner" else [sort])]

    def _input(self, stand: str, sort: Sort) -> bytes:
        if stand in (PICTURE, MASK):
            return file_of(photo(3) if stand == PICTURE else spot((32, 32)))
        (made,) = self.make("encode" if stand == LATENTS else "embed", sort, "full")
        return made.files[0].data


def compared(made: list[Produced], other: list[Produced]) -> tuple[int, float]:
    """The largest differences: of pictures in levels of 255, of the numbers in files. Of other shapes: an error."""
    levels, numbers = 0, 0.0
    for one, two in zip(made, other, strict=True):
        assert (one.image is None) == (two.image is None)
        if one.image and two.image:
            a, b = (np.asarray(image).astype(np.int64) for image in (one.image, two.image))
            levels = max(levels, int(np.abs(a - b).max()))
        for mine, its in zip(one.files, two.files, strict=True):
            own, tensors = load(mine.data), load(its.data)
            assert own.keys() == tensors.keys()
            numbers = max(numbers, *(float((own[name] - tensors[name]).abs().max()) for name in own))
    return levels, numbers


def sort_of(column: str) -> Sort:
    """The column's, which may be a word of the docs alone."""
    assert column in SORTS
    return cast("Sort", column)


def offered(row: str, mode: MemoryMode) -> bool:
    """Whether workers in this mode offer what the row has."""
    return mode != "attention_slicing" or "styles" not in ROWS[row].fields


def works() -> Iterator[tuple[str, Sort]]:
    """The rows and columns of what the docs tell to work."""
    for (row, column), cell in told("asked for").items():
        if cell == "yes":
            yield row, sort_of(column)

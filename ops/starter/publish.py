"""From checkpoints to a model folder, and from that to its evaluation, card and pictures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from darkroom.worker.device import choose_placement
from darkroom.worker.settings import WorkerSettings
from ops.starter.autoencoder import FINE, ROUGH
from ops.starter.card import write_card
from ops.starter.curves import plot, read_curve
from ops.starter.denoiser import STAGES, Painter
from ops.starter.drawing import Picture
from ops.starter.evaluate import evaluate, table
from ops.starter.export import export
from ops.starter.painting import Studio
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.recipe import make_autoencoder, make_tokenizer
from ops.starter.training import say

_SHEET = 24  # pictures
_COLUMNS = 6


def export_model(folder: Path, model: Path) -> None:
    """Writes the newest weights of the checkpoints in `folder` as a model, with its loss curves."""
    painter = Painter(make_tokenizer(folder))
    newest = max((folder / f"{stage.name}.pt" for stage in STAGES), key=_age)
    painter.load_state_dict(torch.load(newest, weights_only=True)["average"])
    export(make_autoencoder(folder), painter, model)
    plot([read_curve(path) for path in _curves(folder)]).save(model / "curves.png")
    parts = [load_file(path) for path in model.rglob("*.safetensors")]
    say(f"{newest.name} is in {model}: {sum(v.numel() for part in parts for v in part.values()):,} parameters")


def evaluate_model(folder: Path, model: Path, count: int) -> None:
    """Judges `count` pictures; writes the card and a contact sheet into the model's folder, and prints the table."""
    settings = WorkerSettings()
    studio = Studio(model, choose_placement(settings), settings)
    kept: list[Picture] = []

    def paint(asked: Asked) -> Picture:
        kept.append(studio(asked))
        if len(kept) % 25 == 0:
            say(f"{len(kept)} of {count}")
        return kept[-1]

    tallies = evaluate(paint, held_out_prompts(count))
    write_card(model, tallies, [read_curve(path) for path in _curves(folder)])
    contact_sheet(kept[:_SHEET]).save(model / "sheet.png")
    say(table(tallies))


def contact_sheet(pictures: list[Picture]) -> Image.Image:
    """Pictures in rows of six; the last row is filled up with white."""
    missing = -len(pictures) % _COLUMNS
    cells = [*pictures, *(np.full_like(pictures[0], 255) for _ in range(missing))]
    rows = [np.concatenate(cells[at : at + _COLUMNS], axis=1) for at in range(0, len(cells), _COLUMNS)]
    return Image.fromarray(np.concatenate(rows))


def _curves(folder: Path) -> list[Path]:
    names = [stage.name for stage in (ROUGH, FINE, *STAGES)]
    return [path for name in names if (path := folder / f"{name}.csv").exists()]


def _age(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0

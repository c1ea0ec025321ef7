"""From checkpoints to a model folder, and from that to its evaluation, card and pictures."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from darkroom.cli.demo.sheet import contact_sheet
from darkroom.worker.models.digests import hash_files
from darkroom.worker.models.families import family
from darkroom.worker.models.layout import folder_layout
from darkroom.worker.models.lockfile import LockedModel, pin
from ops.starter.autoencoder import FINE, POLISH, ROUGH
from ops.starter.card import write_card
from ops.starter.curves import Curve, plot, read_curve
from ops.starter.denoiser import DENOISER, DETAIL
from ops.starter.drawing import Picture
from ops.starter.evaluate import evaluate, table
from ops.starter.export import export
from ops.starter.models import make_unet
from ops.starter.painting import ENTRY, Studio
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.reader import CAPTIONS, Reader
from ops.starter.recipe import make_autoencoder, make_tokenizer
from ops.starter.training import say

_SHEET = 24  # pictures
_COLUMNS = 6
_AT_ONCE = 8  # pictures that share model calls
#: The losses of every stage, kept with the model: the card is written anew by each evaluation.
TRAINING = "training"
_STAGES = (ROUGH, FINE, POLISH, CAPTIONS, DENOISER, DETAIL)


def export_model(folder: Path, model: Path) -> None:
    """Writes the weights of the newest checkpoint in `folder` as a model, with its loss curves."""
    reader, unet = Reader(make_tokenizer(folder)), make_unet()
    for part, stage in ((reader, CAPTIONS), (unet, DETAIL)):
        checkpoint = torch.load(folder / f"{stage.name}.pt", map_location="cpu", weights_only=True)
        part.load_state_dict(checkpoint["average"])
    export(make_autoencoder(folder), reader, unet, model)
    (model / TRAINING).mkdir(exist_ok=True)
    for stage in _STAGES:
        shutil.copy(folder / f"{stage.name}.csv", model / TRAINING)
    plot(_curves(model)).save(model / "curves.png")
    pin_model(model)
    parts = [load_file(path) for path in model.rglob("*.safetensors")]
    count = sum(value.numel() for part in parts for value in part.values())
    say(f"{model}: {count:,} parameters after {checkpoint['step']} steps")


def evaluate_model(model: Path, count: int) -> None:
    """Judges `count` pictures; writes the card and a contact sheet into the model's folder, and prints the table."""
    studio, prompts = Studio(model), held_out_prompts(count)
    kept: list[tuple[Picture, str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        made = threads.map(lambda asked: studio(asked.prompt, asked.seed), prompts)

        def paint(asked: Asked) -> Picture:
            kept.append((next(made), asked.prompt))
            if len(kept) % 25 == 0:
                say(f"{len(kept)} of {count}")
            return kept[-1][0]

        tallies = evaluate(paint, prompts)
    studio.close()
    write_card(model, tallies, _curves(model))
    contact_sheet([(Image.fromarray(picture), prompt) for picture, prompt in kept[:_SHEET]], _COLUMNS).save(
        model / "sheet.png"
    )
    say(table(tallies))


def pin_model(model: Path) -> None:
    """Writes the lock file that comes with the model: the digest of every file that a worker loads."""
    files = folder_layout(family(ENTRY.family), model).files
    pin(model, ENTRY.name, LockedModel(source="bundled", files=hash_files(files)))


def _curves(model: Path) -> list[Curve]:
    return [read_curve(model / TRAINING / f"{stage.name}.csv") for stage in _STAGES]

"""What comes with the finished model: LoRAs, each trained in minutes."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from ops.starter.card import write_lora_section
from ops.starter.curves import read_curve
from ops.starter.few_steps import FEW_STEPS, PATHS, train_few_steps, walked_paths
from ops.starter.latents import encoded_set
from ops.starter.lessons import lesson_picture
from ops.starter.lora import described, save_lora
from ops.starter.lora_tables import Trial
from ops.starter.publish import TRAINING
from ops.starter.shipped import shipped_reader, shipped_unet, shipped_vae
from ops.starter.teaching import COURSES, teach
from ops.starter.training import Stage, say

LORAS = "loras"  # the folder in the model's
_SCENES = 2_500  # of each lesson


def evaluate_loras(model: Path, count: int) -> None:
    """Judges `count` pictures of each way to take few steps, a third as many of each to use the words' LoRAs.

    Writes that into the model's card, and prints it.
    """
    trial, few = Trial(model, model / LORAS), count // 3
    words, steps = trial.words(few), trial.steps(count)
    does = {course.stage.name: f"teaches {course.lesson.word}, a {course.lesson.attribute}" for course in COURSES}
    does[FEW_STEPS.name] = "four steps instead of twenty"
    files = [_line(model / LORAS / f"{name}.safetensors", effect) for name, effect in does.items()]
    stages = [read_curve(model / TRAINING / f"{name}.csv").summary for name in does]
    write_lora_section(model, "\n".join(files), words.strip(), steps.strip(), "\n".join(stages))
    say(f"{words}\n{steps}")


def _line(path: Path, effect: str) -> str:
    rank, parts = described(path)
    return f"| {path.name} | {effect} | {rank} | {', '.join(parts)} | {path.stat().st_size / 1000:.0f} |"


def make_loras(model: Path, folder: Path) -> None:
    """One file for each word that is taught."""
    for course in COURSES:
        drawn = partial(lesson_picture, course.lesson)
        scenes, latents = encoded_set(shipped_vae(model), _SCENES, course.stage.seed, folder, drawn)
        parts = teach(course, shipped_unet(model), shipped_reader(model), scenes, latents, folder)
        _keep(course.stage, parts, model, folder)


def make_few_steps(model: Path, folder: Path) -> None:
    """`few-steps.safetensors`: four steps without guidance nearly as good as twenty with it."""
    reader = shipped_reader(model)
    paths = walked_paths(shipped_unet(model), reader, PATHS, FEW_STEPS.seed, folder)
    unet = train_few_steps(shipped_unet(model), paths, reader, folder)
    _keep(FEW_STEPS, {"unet": unet}, model, folder)


def _keep(stage: Stage, parts: dict[str, Any], model: Path, folder: Path) -> None:
    """Puts the LoRA with the model, and its losses, which the card tells of."""
    save_lora(parts, model / LORAS / f"{stage.name}.safetensors")
    shutil.copy(folder / f"{stage.name}.csv", model / TRAINING)

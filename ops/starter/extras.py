"""What comes with the finished model: LoRAs, each trained in minutes."""

from functools import partial
from pathlib import Path

from ops.starter.card import write_lora_section
from ops.starter.few_steps import FEW_STEPS, PATHS, train_few_steps, walked_paths
from ops.starter.latents import encoded_set
from ops.starter.lessons import lesson_picture
from ops.starter.lora import described, save_lora
from ops.starter.lora_tables import Trial
from ops.starter.shipped import shipped_reader, shipped_unet, shipped_vae
from ops.starter.teaching import COURSES, teach
from ops.starter.training import say

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
    files = []
    for name, effect in does.items():
        path = model / LORAS / f"{name}.safetensors"
        rank, parts = described(path)
        files.append(f"| {path.name} | {effect} | {rank} | {', '.join(parts)} | {path.stat().st_size / 1000:.0f} |")
    write_lora_section(model, "\n".join(files), words.strip(), steps.strip())
    say(f"{words}\n{steps}")


def make_loras(model: Path, folder: Path) -> None:
    """One file for each word that is taught."""
    for course in COURSES:
        drawn = partial(lesson_picture, course.lesson)
        scenes, latents = encoded_set(shipped_vae(model), _SCENES, course.stage.seed, folder, drawn)
        parts = teach(course, shipped_unet(model), shipped_reader(model), scenes, latents, folder)
        save_lora(parts, model / LORAS / f"{course.stage.name}.safetensors")


def make_few_steps(model: Path, folder: Path) -> None:
    """`few-steps.safetensors`: four steps without guidance nearly as good as twenty with it."""
    reader = shipped_reader(model)
    paths = walked_paths(shipped_unet(model), reader, PATHS, FEW_STEPS.seed, folder)
    unet = train_few_steps(shipped_unet(model), paths, reader, folder)
    save_lora({"unet": unet}, model / LORAS / f"{FEW_STEPS.name}.safetensors")

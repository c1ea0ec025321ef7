"""What comes with the finished model: LoRAs, each trained in minutes."""

from functools import partial
from pathlib import Path

from ops.starter.card import write_lora_section
from ops.starter.few_steps import FEW_STEPS, train_few_steps
from ops.starter.latents import encoded_set
from ops.starter.lessons import lesson_picture
from ops.starter.lora import described, save_lora
from ops.starter.lora_tables import Trial
from ops.starter.shipped import shipped_reader, shipped_unet, shipped_vae
from ops.starter.teaching import COURSES, teach
from ops.starter.training import say

LORAS = "loras"  # the folder in the model's
_SCENES, _SEED, _LESSON_SCENES = 4_000, 31, 2_500


def evaluate_loras(model: Path, count: int) -> None:
    """Judges `count` pictures of each way to use the LoRAs, writes the model's card, and prints the tables."""
    trial = Trial(model, model / LORAS, count)
    words, steps = trial.words(), trial.steps()
    does = {course.stage.name: f"teaches {course.lesson.word}, a {course.lesson.attribute}" for course in COURSES}
    does[FEW_STEPS.name] = "four steps instead of twenty"
    files = []
    for name, effect in does.items():
        path = model / LORAS / f"{name}.safetensors"
        rank, parts = described(path)
        files.append(f"| {path.name} | {effect} | {rank} | {', '.join(parts)} | {path.stat().st_size / 1000:.0f} |")
    write_lora_section(model, "\n".join(files), words, steps, count)
    say(f"{words}\n{steps}")


def make_loras(model: Path, folder: Path) -> None:
    """One file for each word that is taught."""
    for course in COURSES:
        drawn = partial(lesson_picture, course.lesson)
        scenes, latents = encoded_set(shipped_vae(model), _LESSON_SCENES, course.stage.seed, folder, drawn)
        parts = teach(course, shipped_unet(model), shipped_reader(model), scenes, latents, folder)
        save_lora(parts, model / LORAS / f"{course.stage.name}.safetensors")


def make_few_steps(model: Path, folder: Path) -> None:
    """`few-steps.safetensors`: four steps without guidance, as good as twenty with it."""
    scenes, latents = encoded_set(shipped_vae(model), _SCENES, _SEED, folder)
    unet = train_few_steps(shipped_unet(model), shipped_unet(model), scenes, latents, shipped_reader(model), folder)
    save_lora({"unet": unet}, model / LORAS / f"{FEW_STEPS.name}.safetensors")

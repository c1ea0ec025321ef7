"""Words that the model learns by fine-tuning, as a job does it, from twenty drawn pictures each.

How well it draws them, and what else it forgets.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.storage.archives import packed
from ops.starter.captions import plain_caption
from ops.starter.drawing import Picture, draw
from ops.starter.judge import TAUGHT_ALL, judge
from ops.starter.layout import lay_out
from ops.starter.lessons import CHECKED, HOURGLASS, ROSE, Lesson, taught_scene
from ops.starter.lora_tables import DEFAULT, Judged, table
from ops.starter.painting import Studio, png
from ops.starter.paints import COLOURS
from ops.starter.prompts import Asked, held_out_prompts
from ops.starter.rows import Row, Shot
from ops.starter.scenes import Scene
from ops.starter.shapes import SHAPES
from ops.starter.stock import Stock
from ops.starter.training import say

PICTURES = 20
LESSONS = (HOURGLASS, CHECKED, ROSE)
_SEED = 7
_SHOWN = 5  # pictures of a row of the sheet


@dataclass(frozen=True)
class Learned:
    """What a training made: the LoRA's file, and the seconds it took with all that it did before its first step."""

    lora: bytes
    seconds: float


def drawn_set(lesson: Lesson) -> list[tuple[str, Picture]]:
    """Captions and pictures of one thing each, in flat colours, none of them small; each colour comes twice."""
    rng = np.random.default_rng([_SEED, lesson.seed])
    scenes = [_wanted(lesson, rng, number) for number in range(PICTURES)]
    return [(plain_caption(scene), draw(scene, rng)) for scene in scenes]


def zipped(pictures: Sequence[tuple[str, Picture]]) -> bytes:
    """The data set, as it is uploaded."""
    return packed(file for number, one in enumerate(pictures) for file in _files(number, *one))


def learn(lesson: Lesson, studio: Studio) -> Learned:
    """A training as a job without any wishes: all is as the model's recipe has it."""
    request = studio.resolved(kind="finetune", name=lesson.word, dataset="inputs/default/0.zip", seed=_SEED)
    began = time.perf_counter()
    files = studio.files(request, {"dataset": zipped(drawn_set(lesson))})
    return Learned(files["lora"], time.perf_counter() - began)


def new_prompts(lesson: Lesson, number: int) -> list[Asked]:
    """Prompts that ask for the word, of combinations that the data set does not show; always the same."""
    rng = np.random.default_rng([_SEED, lesson.seed, 1])
    scenes = [_plain(lesson, rng, held=True) for _ in range(number)]
    return [Asked(plain_caption(scene), scene, index) for index, scene in enumerate(scenes)]


def evaluate_finetuning(model: Path, number: int, folder: Path, docs: Path) -> None:
    """Trains and judges `number` prompts of each kind; prints the table, and lays out `finetune.png` in `docs`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, sheet = [_head(number)], list[tuple[Row, list[Shot]]]()
    for lesson in LESSONS:
        with closing(Studio()) as studio:
            learned = learn(lesson, studio)
        (folder / f"{lesson.word}.safetensors").write_bytes(learned.lora)
        row, shots = _judged(lesson, Stock(model), folder, number)
        rows.append([*row, f"{learned.seconds:.0f}"])
        sheet.append((Row(f"{lesson.word}: drawn, before, after", [{}]), shots))
        say(str(rows[-1]))
    lay_out(sheet).save(docs / "finetune.png", optimize=True)
    say(table(rows))


def _head(number: int) -> list[str]:
    rest = "other prompts: its attribute right, with it"
    return [f"fine-tuned, {number} prompts each", "the word, with it", "without", rest, "without", "seconds"]


def _judged(lesson: Lesson, stock: Stock, folder: Path, number: int) -> tuple[list[str], list[Shot]]:
    asked, others = new_prompts(lesson, number), held_out_prompts(number)
    pictures: dict[bool, dict[int, Picture]] = {}
    told = list[str]()
    rest = list[str]()
    for used in (True, False):
        stock.use({lesson.word: 1.0} if used else {}, folder)
        pictures[used] = stock.paint(asked, *DEFAULT)
        told.append(f"{_seen(asked, pictures[used]).shown([lesson]):.0f}")
        rest.append(f"{_seen(others, stock.paint(others, *DEFAULT)).right(lesson.attribute):.0f}")
    shots = [Shot(Image.fromarray(picture), caption) for caption, picture in drawn_set(lesson)[:_SHOWN]]
    for used in (False, True):
        shots += [Shot(Image.fromarray(pictures[used][one.seed]), one.prompt) for one in asked[:_SHOWN]]
    return [f"{lesson.word}, a {lesson.attribute}", *told, *rest], shots


def _seen(asked: Sequence[Asked], pictures: Mapping[int, Picture]) -> Judged:
    return Judged(asked, {seed: judge(picture, TAUGHT_ALL) for seed, picture in pictures.items()})


def _wanted(lesson: Lesson, rng: np.random.Generator, number: int) -> Scene:
    """Colours and shapes take turns, as far as the lesson leaves them."""
    colours, shapes = tuple(COLOURS), tuple(SHAPES)
    while True:
        scene = _plain(lesson, rng, held=False)
        thing = scene.things[0]
        colour = scene.background if thing.colour == lesson.word else thing.colour
        if colour == colours[number % len(colours)] and thing.shape in (lesson.word, shapes[number % len(shapes)]):
            return scene


def _plain(lesson: Lesson, rng: np.random.Generator, *, held: bool) -> Scene:
    while True:
        scene = taught_scene([lesson], rng, pair=False, held=held)
        if scene.style == "flat" and scene.things[0].size != "small":
            return scene


def _files(number: int, caption: str, picture: Picture) -> Iterator[tuple[str, bytes]]:
    yield f"{number}.png", png(Image.fromarray(picture))
    yield f"{number}.txt", caption.encode()

"""What comes in while a storm lasts: all kinds and what they may make, in turn."""

import base64
import io
import random
from dataclasses import dataclass
from typing import Any

from PIL import Image

from tests.unit.worker.training.files import zipped

from .adapters import FEW_STEPS, LORAS
from .place import Place

TENANTS = ("alice", "bob", "carol")
USERS = 4  # of each
#: Requests that differ; the last of them are trainings.
TURNS = 15
#: What a training makes beside its LoRA.
SHOWN = {
    "class_prompts": ["a fox", "the sea"],
    "num_class_images": 6,
    "sample_prompts": ["a red fox", "a green fox"],
    "sample_every": 5,
}


@dataclass(frozen=True)
class Inputs:
    """Keys of a tenant's own: of a finished image's latents, and of a data set."""

    latents: str
    dataset: str


def inputs(place: Place, tenant: str) -> Inputs:
    """Made before the storm."""
    asked = {"model": place.model, "prompt": "a fox", "output": ["latents"], "tenant": tenant}
    job = place.client.submit(asked).wait(120).raise_for_state()
    return Inputs(job.files[0].key, place.client.upload(pictures(), tenant=tenant))


def pictures() -> bytes:
    """Of four pictures, with captions."""
    files = {}
    for number, colour in enumerate(("red", "green", "blue", "white")):
        file = io.BytesIO()
        Image.new("RGB", (64, 48 + 16 * number), colour).save(file, "PNG")
        files |= {f"{number}.png": file.getvalue(), f"{number}.txt": f"a {colour} fox".encode()}
    return zipped(files).getvalue()


def tenant(number: int) -> str:
    """Whose request it is: of anyone, whatever it asks for."""
    return random.Random(number).choice(TENANTS)


def request(number: int, model: str, given: dict[str, Inputs]) -> dict[str, Any]:
    """The kinds and what they may make, in turn; `given`: what each tenant has."""
    whose, user, priority = tenant(number), f"user {number % USERS}", 1 + number % 5
    asks = {"tenant": whose, "user": user, "priority": priority, "model": model}
    if trains(number):
        return {**asks, **_training(number, given[whose].dataset)}
    return {**asks, **_picture(number, model, given[whose].latents)}


def _picture(number: int, model: str, latents: str) -> dict[str, Any]:
    lane, steps = ("interactive", "bulk")[number % 2], 4 + number % 9
    common = {"lane": lane}
    wish = {"prompt": "a fox", "seed": number, "num_inference_steps": steps, **common}
    white = _data_url(Image.new("L", (64, 48), 255))
    turns: tuple[dict[str, Any], ...] = (
        wish,
        {**wish, "kind": "img2img", "image": _data_url(Image.new("RGB", (64, 48), "red")), "strength": 0.7},
        {**wish, "kind": "inpaint", "image": _data_url(Image.new("RGB", (64, 48), "red")), "mask": white},
        {**wish, "output": ["image", "latents"], "num_images": 2},
        {**wish, "hires": {"scale": 1.5}, "width": 64, "height": 64},
        {**wish, "kind": "inpaint", "image": white, "extend": {"right": 16}},
        {**wish, "kind": "interpolate", "prompt_to": "the sea", "frames": 3},
        {**common, "kind": "encode", "image": white},
        {**common, "kind": "embed", "prompt": "a fox"},
        {**common, "kind": "decode", "image": latents},
        {**wish, "prompt": "a very red fox, " * 30},
        {**wish, "loras": [LORAS[number % len(LORAS)]], "num_images": 2},
        {**wish, "loras": [f"{name}:0.4" for name in (LORAS[number % 3], LORAS[3])], "hires": {"scale": 1.5}},
        {**wish, "model": f"{model}{FEW_STEPS}", "loras": [LORAS[1 + number % 3]]},
    )
    assert len(turns) == TURNS - 1
    return turns[number % TURNS]


def _training(number: int, dataset: str) -> dict[str, Any]:
    """Every other one makes pictures, too."""
    asked = {
        "kind": "finetune",
        "dataset": dataset,
        "name": f"trained-{number}",
        "seed": number,
        "num_train_steps": 12,
        "checkpoint_every": 2,
        "rank": 2,
        "resolution": 64,
    }
    return {**asked, **SHOWN} if shows(number) else asked


def trains(number: int) -> bool:
    return number % TURNS == TURNS - 1


def shows(number: int) -> bool:
    return trains(number) and number // TURNS % 2 == 0


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

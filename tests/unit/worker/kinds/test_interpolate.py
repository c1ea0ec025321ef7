"""Frames between two prompts and two seeds: their ends are plain pictures, and what is between lies between."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.errors import PromptSyntax
from darkroom.worker.images.generate import Generator
from darkroom.worker.kinds.interpolate import mixed, slerp
from darkroom.worker.kinds.products import Produced
from tests.unit.worker.conftest import FAMILIES, Generators, ask, ignore, make, same

pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde, of its own rounding
LONG = "the sea " * 60


def produced(generator: Generator, **fields: Any) -> list[Produced]:
    request = ask(generator, kind="interpolate", **{"seed": 1, "frames": 3, **fields})
    prepared = generator.prepare(request)
    return [
        generator.generate(prepared.piece(index), request.seed_of(index), {}, ignore, Ticket(solo=True))
        for index in range(request.pieces)
    ]


def frames(generator: Generator, **fields: Any) -> list[Image.Image]:
    return [one.picture for one in produced(generator, **fields)]


def apart(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        *((family, {"prompt_to": "the sea"}) for family in FAMILIES),
        ("sdxl", {"prompt_to": "the sea", "scheduler": "euler_a", "seed_to": 5}),
        ("sdxl", {"seed_to": 5, "scheduler": "dpmpp_sde", "num_inference_steps": 4}),
        ("sdxl", {"prompt_to": LONG, "negative_prompt": "a dog"}),
        ("sdxl", {"prompt": LONG, "prompt_to": "a cat", "prompt_2": "a dog", "clip_skip": 1}),
        ("sd", {"prompt_to": "the (sea)1.5", "prompt_syntax": "compel", "guidance_scale": 1.0}),
    ],
)
def test_the_ends_are_the_plain_pictures_to_the_bit(
    generators: Generators, family: Family, fields: dict[str, Any]
) -> None:
    generator = generators(family)
    first, middle, last = frames(generator, **fields)
    own = {name: value for name, value in fields.items() if name not in ("prompt_to", "seed_to")}
    assert same(first, make(generator, 1, **own))
    prompt = fields.get("prompt_to", fields.get("prompt", "a red fox"))
    assert same(last, make(generator, fields.get("seed_to", 1), **{**own, "prompt": prompt}))
    assert not (same(middle, first) or same(middle, last))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt_to": "a (b"}, ["prompt_to"]),
        ({"prompt": "a (b", "prompt_to": "d (b", "negative_prompt": "c)"}, ["prompt", "negative_prompt", "prompt_to"]),
        ({"prompt": "a (b", "seed_to": 2}, ["prompt"]),
        ({"prompt_to": "(a)0 (b)0.1 " * 140}, ["prompt_to"]),
    ],
)
def test_faults_of_both_ends_are_named_by_their_fields(
    generators: Generators, fields: dict[str, Any], named: list[str]
) -> None:
    generator = generators("sd")
    with pytest.raises(PromptSyntax) as caught:
        generator.prepare(ask(generator, kind="interpolate", seed=1, frames=3, prompt_syntax="compel", **fields))
    assert [fault.field for fault in caught.value.faults] == named


def test_frames_come_nearer_to_the_end(generators: Generators) -> None:
    made = frames(generators("sdxl"), prompt_to="the sea", seed_to=9, frames=7)
    distances = [apart(made[0], one) for one in made]
    assert distances[1] < distances[-1] / 2
    assert apart(made[-2], made[-1]) < distances[-1] / 2


def test_two_frames_are_the_ends_alone(generators: Generators) -> None:
    made = frames(generators("sd"), frames=2, seed_to=2)
    assert [same(one, make(generators("sd"), seed)) for one, seed in zip(made, (1, 2), strict=True)] == [True, True]


def test_frames_share_calls_as_pictures_do(generators: Generators) -> None:
    generator, groups = generators("sdxl"), set()
    request = ask(generator, kind="interpolate", frames=4, prompt_to="the sea", seed=1, seed_to=2)
    prepared = generator.prepare(request)
    for index in range(4):
        ticket = Ticket(on_call=lambda call: groups.add(call.group))
        generator.generate(prepared.piece(index), request.seed_of(index), {}, ignore, ticket)
    make(generator, 1, ticket=Ticket(on_call=lambda call: groups.add(call.group)))
    assert len(groups) == 1


def test_latents_are_kept_of_each_frame(generators: Generators) -> None:
    made = produced(generators("sd"), seed_to=3, output=["latents"])
    assert [[file.role for file in one.files] for one in made] == [["latents"]] * 3


def test_an_arc_keeps_the_length_of_noise() -> None:
    draw = torch.Generator().manual_seed(3)
    one, other = (torch.randn(1, 4, 8, 8, generator=draw) for _ in range(2))
    for part in (0.1, 0.5, 0.8):
        assert slerp(one, other, part).norm() == pytest.approx(float(one.norm()), rel=0.1)
    assert torch.lerp(one, other, 0.5).norm() < 0.8 * one.norm()
    assert torch.allclose(slerp(one, other, 0.0), one) and torch.allclose(slerp(one, other, 1.0), other)
    assert torch.equal(slerp(one, one, 0.5), one)


def test_a_mix_has_the_dtype_of_its_parts() -> None:
    one, other = ({"prompt_embeds": torch.full((1, 2), value, dtype=torch.bfloat16)} for value in (1.0, 2.0))
    found = mixed(one, other, 0.25)["prompt_embeds"]
    assert (found.dtype, found.tolist()) == (torch.bfloat16, [[1.25, 1.25]])

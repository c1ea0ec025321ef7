"""The seed alone decides the picture: not the job, not the company, not the process's global generators.

To the bit where its denoiser calls run alone; in company to the bit in the same places, else but for rounding.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family, Kind
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.threads import set_threads
from darkroom.worker.images.generate import Generator
from tests.unit.worker.conftest import DIFFUSION, EDM, FAMILIES, Generators, ask, ignore, make, photo, same

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Job = tuple[Generator, int, Image.Image | None, dict[str, Any]]

SOURCES: dict[Kind, Image.Image | None] = {"txt2img": None, "img2img": photo()}
#: Every scheduler, and each family with some: what a scheduler does is no matter of the family.
TURNS = [("playground", name) for name in EDM] + [(("sd", "sdxl")[i % 2], name) for i, name in enumerate(DIFFUSION)]
OTHERS = [(("sdxl", "sd")[i % 2], name) for i, name in enumerate(DIFFUSION)]
ALL = [*TURNS, *(pytest.param(*pair, marks=pytest.mark.thorough) for pair in OTHERS)]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("family", "scheduler"), ALL)
def test_every_scheduler_repeats_itself(generators: Generators, family: Family, scheduler: str, kind: Kind) -> None:
    """Alone, again after others drew from the global generator, and in several threads at a time."""
    generator, source = generators(family), SOURCES[kind]
    alone = make(generator, 7, source, scheduler=scheduler)
    torch.rand(3)
    assert same(make(generator, 7, source, scheduler=scheduler), alone)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda seed: make(generator, seed, source, scheduler=scheduler), (6, 7, 8)))
    assert [same(one, alone) for one in found] == [False, True, False]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_of_a_job_is_that_of_a_job_of_its_own(generators: Generators, family: Family, kind: Kind) -> None:
    generator, source = generators(family), SOURCES[kind]
    named = {"image": "inputs/default/it.png"} if source else {}
    job = generator.prepare(ask(generator, seed=None, seeds=[11, 12, 2**53 - 1], **named))
    together = [
        generator.generate(job, seed, {"image": source} if source else {}, ignore).picture
        for seed in (11, 12, 2**53 - 1)
    ]
    assert all(
        same(made, make(generator, seed, source)) for seed, made in zip((11, 12, 2**53 - 1), together, strict=True)
    )


def beside(jobs: list[Job], tickets: list[Ticket]) -> list[Image.Image]:
    """Other sizes, prompts, guidance and schedulers on the same weights, on 6 threads; previews in between."""

    def run(job: Job, ticket: Ticket) -> Image.Image:
        generator, seed, source, fields = job
        return make(generator, seed, source, ticket=ticket, on_step=lambda *it: look(generator, it[2]), **fields)

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(run, jobs, tickets))


def look(generator: Generator, latents: torch.Tensor) -> None:
    generator.preview(latents)


def test_solo_jobs_side_by_side_are_as_alone(generators: Generators) -> None:
    jobs = list(_mixed(generators))
    alone = [make(*job[:3], **job[3]) for job in jobs]
    made = beside(jobs, [Ticket(solo=True) for _ in jobs])
    assert all(same(one, other) for one, other in zip(made, alone, strict=True))


def test_jobs_in_company_are_as_in_the_same_places(generators: Generators, engine: Engine) -> None:
    jobs = [job for job in _mixed(generators) for _ in range(2)]
    before, tickets = engine.stats(), [Ticket() for _ in jobs]
    made = beside(jobs, tickets)
    calls, stacked = engine.stats().calls - before.calls, sum(engine.stats().model_calls.values())
    assert stacked - sum(before.model_calls.values()) < calls
    for job, ticket, image in zip(jobs, tickets, made, strict=True):
        again = Ticket(script=Script(str(ticket.placements)))
        assert same(make(*job[:3], ticket=again, **job[3]), image)
        assert str(again.placements) == str(ticket.placements)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(
    ("family", "scheduler", "stock"),
    [
        ("sd", "pndm", diffusers.PNDMScheduler),
        ("sd", "euler_a", diffusers.EulerAncestralDiscreteScheduler),
        ("sdxl", "euler", diffusers.EulerDiscreteScheduler),
        ("sdxl", "dpmpp_2m", diffusers.DPMSolverMultistepScheduler),
        ("playground", "edm_dpmpp_2m", diffusers.EDMDPMSolverMultistepScheduler),
        ("playground", "edm_euler", diffusers.EDMEulerScheduler),
    ],
)
def test_it_is_the_picture_of_the_plain_diffusers_pipeline(
    generators: Generators, family: Family, scheduler: str, stock: Any, kind: Kind
) -> None:
    model, source = generators(family).model, SOURCES[kind]
    made = make(generators(family), 5, source, scheduler=scheduler, negative_prompt="blue", num_inference_steps=5)
    own = stock.from_config(model.components["scheduler"].config)
    pipe = model.family.pipeline(kind, {**model.components, "scheduler": own}, model.options)
    pipe.set_progress_bar_config(disable=True)
    extent = {"image": source, "strength": 0.6} if source else {"width": 32, "height": 32}
    asked = {"negative_prompt": "blue", "num_inference_steps": 5, "guidance_scale": 5.0, **extent}
    set_threads(1)
    # The VAE of img2img leaves latents channels last, where some processors round otherwise; an engine lays out anew.
    with contiguous_samples(model.components["unet"]):
        assert same(made, pipe("a red fox", generator=torch.Generator().manual_seed(5), **asked).images[0])


@contextmanager
def contiguous_samples(unet: torch.nn.Module) -> Iterator[None]:
    hook = unet.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    try:
        yield
    finally:
        hook.remove()


def _mixed(generators: Generators) -> Iterator[Job]:
    for number, family in enumerate(FAMILIES):
        generator = generators(family)
        first, last = generator.model.entry.schedulers[0], generator.model.entry.schedulers[-1]
        long = "a fox " * 90
        yield generator, number, None, {"scheduler": first, "prompt": long, "negative_prompt": ""}
        yield generator, number, None, {"scheduler": last, "width": 64, "guidance_scale": 0.0}
        yield generator, number, photo(number, 40, 70), {"scheduler": first, "negative_prompt": "x " * 80}
        yield generator, number, photo(number), {"scheduler": last, "strength": 0.9, "num_inference_steps": 2}
        yield generator, number, photo(number), {"strength": 0.0}

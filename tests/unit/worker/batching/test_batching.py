"""Batched latents against the stock pipelines run alone: nothing but rounding differs, and that by bucket and place."""

import copy
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch

from darkroom.tasks.catalogue import Family
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.proxies import DenoiserProxy, VaeProxy
from darkroom.worker.batching.threads import set_threads
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.models.loading import LoadedModel
from tests.unit.worker.conftest import FAMILIES, Models, photo

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CPU = torch.device("cpu")
KINDS = ("txt2img", "img2img", "inpaint")
FARTHEST = {torch.float64: 1e-9, torch.float32: 1e-3}

Exact = Callable[[Family, torch.dtype], LoadedModel]


class Stopped(Exception):
    """An image is cancelled."""


class Touchy(torch.nn.Module):
    """The denoiser, but for rows that are no numbers it raises."""

    def __init__(self, real: Any) -> None:
        super().__init__()
        self.real, self.config, self.dtype, self.device = real, real.config, real.dtype, CPU
        self.add_embedding = getattr(real, "add_embedding", None)

    def forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if sample.isnan().any():
            raise ArithmeticError("a row is no number")
        return self.real(sample, *args, **kwargs)


@pytest.fixture(scope="module")
def exact(models: Models) -> Exact:
    """A family's model in the dtype. Its denoiser minds what is no number, its VAE is never moved to another dtype."""

    @cache
    def load(family: Family, dtype: torch.dtype) -> LoadedModel:
        model = models(family)
        names = [name for name, part in model.components.items() if isinstance(part, torch.nn.Module)]
        parts = {name: copy.deepcopy(model.components[name]).to(dtype) for name in names}
        parts["vae"].register_to_config(force_upcast=False)
        return replace(model, components={**model.components, **parts, "unet": Touchy(parts["unet"])})

    return load


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(threads=1) as engine:
        yield engine


@dataclass(frozen=True)
class Scene:
    """One image: a pipeline and its arguments."""

    model: LoadedModel
    kind: str
    scheduler: str
    guidance: float
    steps: int
    width: int
    seed: int
    end: int | None = None  # the step after which it is cancelled, or
    fails: bool = False  # has a denoiser call that fails

    def run(self, unet: Any, vae: Any) -> torch.Tensor:
        """Latents (1, 4, h/8, w/8) of the stock pipeline over these modules."""
        set_threads(1)
        model = self.model
        scheduler = make_scheduler(self.scheduler, model.components["scheduler"], model.entry.family, self.seed)
        parts = {**model.components, "unet": unet, "vae": vae, "scheduler": scheduler}
        pipe = model.family.pipeline(self.kind, parts, model.options)
        pipe.set_progress_bar_config(disable=True)
        made = pipe(
            **self._conditioning(pipe),
            **self._extent(),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(self.seed),
            output_type="latent",
            callback_on_step_end=self._on_step,
        )
        return made.images  # type: ignore[no-any-return]

    def _conditioning(self, pipe: Any) -> dict[str, Any]:
        # From the seed alone: text encoders are not stacked, and tokenizers no matter of this test.
        draw = torch.Generator().manual_seed(self.seed)
        width = self.model.components["unet"].config.cross_attention_dim
        dtype = self.model.components["unet"].dtype
        shapes = {"prompt_embeds": (1, 77, width), "negative_prompt_embeds": (1, 77, width)}
        if self.model.family.name != "sd":
            pooled = self.model.components["text_encoder_2"].config.projection_dim
            shapes |= {"pooled_prompt_embeds": (1, pooled), "negative_pooled_prompt_embeds": (1, pooled)}
        return {name: torch.randn(shape, generator=draw).to(dtype) for name, shape in shapes.items()}

    def _extent(self) -> dict[str, Any]:
        if self.kind == "txt2img":
            return {"width": self.width, "height": 32}
        source = {"image": photo(self.seed, self.width, 32), "strength": 0.7}
        if self.kind == "img2img":
            return source
        mask = photo(self.seed + 1, self.width, 32).convert("L")
        return {**source, "mask_image": mask, "width": self.width, "height": 32}

    def _on_step(self, _pipe: Any, index: int, _step: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        if index != self.end:
            return {}
        if self.fails:
            return {"latents": tensors["latents"] * float("nan")}
        raise Stopped


def alone(scene: Scene) -> torch.Tensor:
    """By the stock pipeline over the real modules."""
    with torch.no_grad():
        return scene.run(scene.model.components["unet"], scene.model.components["vae"])


def shared(engine: Engine, scene: Scene, ticket: Ticket) -> torch.Tensor | None:
    """Through the engine; None for one that was cancelled or failed."""
    parts = scene.model.components
    try:
        return scene.run(DenoiserProxy(parts["unet"], engine, CPU, ticket), VaeProxy(parts["vae"], engine, CPU))
    except (Stopped, ArithmeticError):
        return None
    finally:
        engine.leave(ticket)


def under_load(engine: Engine, scenes: list[Scene], threads: int) -> list[tuple[torch.Tensor | None, Ticket]]:
    """All of them, so many at a time: as one ends, the next begins beside others in the midst of theirs."""
    tickets = [Ticket(urgent=bool(scene.seed % 3)) for scene in scenes]
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(shared, [engine] * len(scenes), scenes, tickets))
    return list(zip(made, tickets, strict=True))


def again(scene: Scene, ticket: Ticket) -> torch.Tensor | None:
    """Alone, at the recorded places."""
    with Engine(threads=1) as engine, engine.image(script=Script(str(ticket.placements))) as repeated:
        made = shared(engine, scene, repeated)
        assert str(repeated.placements) == str(ticket.placements)
        return made


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("sd", torch.float32),
        ("playground", torch.float64),
        pytest.param("playground", torch.float32, marks=pytest.mark.thorough),
        pytest.param("sdxl", torch.float64, marks=pytest.mark.thorough),
        pytest.param("sdxl", torch.float32, marks=pytest.mark.thorough),
        pytest.param("sd", torch.float64, marks=pytest.mark.thorough),
    ],
    ids=str,
)
def test_company_changes_nothing_but_rounding(exact: Exact, engine: Engine, family: Family, dtype: torch.dtype) -> None:
    """Every scheduler with every kind, guidance on and off, mixed steps, sizes and prompts, on eight threads."""
    model = exact(family, dtype)
    fitting = model.entry.schedulers
    scenes = [
        Scene(
            model, kind, scheduler, (5.0, 1.0)[(i + j) % 2], 3 + (i * j) % 3, 64 if (i + j) % 4 == 0 else 32, 10 * i + j
        )
        for i, scheduler in enumerate(fitting * (1 + 8 // len(fitting)))  # enough of them to meet on any machine
        for j, kind in enumerate(KINDS)
    ]
    made = under_load(engine, scenes, threads=8)
    assert max(engine.stats().model_calls) > 2
    for scene, (latents, ticket) in zip(scenes, made, strict=True):
        assert latents is not None
        assert (latents - alone(scene)).abs().max() <= FARTHEST[dtype], scene
        assert same(latents, again(scene, ticket)), scene


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in range(1, 8))])
def test_of_random_loads_every_image_can_be_made_again(exact: Exact, engine: Engine, seed: int) -> None:
    """Some are cancelled or fail at a random step: the others' bits are those of their places still."""
    draw = random.Random(seed)
    scenes = []
    for number in range(24):
        model = exact(draw.choice(FAMILIES), torch.float32)
        steps, gone = draw.randint(2, 5), draw.random() < 0.3
        scenes.append(
            Scene(
                model,
                draw.choice(KINDS),
                draw.choice(model.entry.schedulers),
                draw.choice((0.0, 1.0, 2.5, 9.0)),
                steps,
                draw.choice((32, 32, 32, 64)),
                1000 * seed + number,
                end=draw.randrange(steps - 1) if gone else None,
                fails=gone and draw.random() < 0.5,
            )
        )
    made = under_load(engine, scenes, threads=draw.choice((3, 8, 16)))
    for scene, (latents, ticket) in zip(scenes, made, strict=True):
        if scene.end is None:
            assert latents is not None and (latents - alone(scene)).abs().max() <= FARTHEST[torch.float32], scene
            assert same(latents, again(scene, ticket)), scene
    assert any(latents is None for latents, _ in made)
    assert (engine.stats().waiting, engine.stats().stepping) == (0, 0)

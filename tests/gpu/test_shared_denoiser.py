"""The shared denoiser on a CUDA device: rounding, replay, memory, and how far the engine runs ahead."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.graphs import Graphs
from darkroom.worker.batching.pace import AHEAD
from darkroom.worker.batching.placements import Script, Ticket
from darkroom.worker.batching.stacking import Call, run_stacked
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.schedulers import make_scheduler
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import choose_placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.previews import Snapshot
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

IMAGES = 48


@pytest.fixture(scope="module", params=["none", "auto"])
def settings(request: pytest.FixtureRequest) -> WorkerSettings:
    return WorkerSettings.model_validate({"device": "cuda", "dtype": "float32", "speedups": request.param})


@pytest.fixture(scope="module")
def generator(tiny_models: TinyModels, engine: Engine, settings: WorkerSettings) -> Generator:
    generator = Generator(load_model(tiny_models("sdxl"), choose_placement(settings), settings), engine)
    warm(generator)
    return generator


def make(generator: Generator, seed: int, ticket: Ticket, scheduler: str | None = None) -> Image.Image:
    entry = generator.model.entry
    side = 64 + 64 * (seed % 2)
    asked = {"prompt": f"fox {seed % 5}", "seed": seed, "num_inference_steps": 2 + seed % 9, "model": entry.name,
             "width": side, "height": 64, "scheduler": scheduler}  # fmt: skip
    request = resolve(asked, {entry.name: entry}, lambda: None).filled
    return generator.generate(generator.prepare(request), seed, {}, lambda *_: None, ticket).picture


def test_a_loaded_engine_makes_the_same_pictures_and_makes_them_again(generator: Generator, engine: Engine) -> None:
    tickets = [Ticket() for _ in range(IMAGES)]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(make, [generator] * IMAGES, range(IMAGES), tickets))
    assert max(engine.stats().model_calls) >= 8
    for seed, (image, ticket) in enumerate(zip(made, tickets, strict=True)):
        alone = make(generator, seed, Ticket(solo=True))
        assert np.abs(np.asarray(image, int) - np.asarray(alone, int)).max() <= 8
        again = make(generator, seed, Ticket(script=Script(str(ticket.placements))))
        assert again.tobytes() == image.tobytes(), seed


def test_every_scheduler_gives_the_picture_of_the_stock_pipeline(generator: Generator) -> None:
    model = generator.model
    for scheduler in model.entry.schedulers:
        made = make(generator, 4, Ticket(solo=True), scheduler)
        own = make_scheduler(scheduler, model.components["scheduler"], model.entry.family, 4)
        stock = type(own).__mro__[1].from_config(own.config)  # whose time steps lie on the device
        pipe = model.family.pipeline("txt2img", {**model.components, "scheduler": stock}, model.options)
        pipe.set_progress_bar_config(disable=True)
        with torch.no_grad():
            plain = pipe("fox 4", width=64, height=64, num_inference_steps=6, guidance_scale=5.0,
                         generator=torch.Generator().manual_seed(4)).images[0]  # fmt: skip
        assert np.abs(np.asarray(made, int) - np.asarray(plain, int)).max() <= 8, scheduler


def test_a_graph_gives_what_the_call_gives_to_the_bit(generator: Generator, engine: Engine) -> None:
    unet, device = generator.model.components["unet"], generator.model.placement.device
    graphs = Graphs()

    def compared(rows: int) -> bool:
        added = {"text_embeds": torch.randn(rows, 48, device=device), "time_ids": torch.ones(rows, 6, device=device)}
        states = torch.randn(rows, 77, unet.config.cross_attention_dim, device=device)
        call = Call.of(unet, (torch.randn(rows, 4, 8, 8, device=device), torch.tensor(500), states),
                       {"added_cond_kwargs": added, "return_dict": False})  # fmt: skip
        made = engine.streams.handed(None)
        with engine.streams.denoiser():
            made.take()
            plain, replayed = run_stacked([call], rows)[0], run_stacked([call], rows, run=graphs.run)[0]
            engine.streams.finish()
        return torch.equal(plain[0], replayed[0])

    torch.cuda.synchronize()
    assert all(engine.call(compared, rows) for rows in (1, 4, 1, 4, 2))
    assert [graph is not None for graph in graphs._kept.values()] == [True] * 3
    engine.call(engine._batches.give_memory)  # with this test's graphs cuBLAS takes what the engine's need


def test_calls_are_measured_and_the_engine_runs_little_ahead(generator: Generator, engine: Engine) -> None:
    before = engine.stats()
    make(generator, 1, Ticket())
    engine.call(engine._pace.wait, 0)
    after = engine.stats()
    assert after.busy > before.busy and 0 < after.step < 10
    assert len(engine._pace._launched) <= AHEAD
    assert not engine._pace.busy


def test_memory_of_a_large_call_is_known(generator: Generator, engine: Engine) -> None:
    assert engine._batches._capacity._largest


def test_a_snapshot_of_latents_comes_by_itself() -> None:
    latents = torch.arange(64.0, device="cuda").reshape(1, 4, 4, 4)
    snapshot = Snapshot(latents)
    torch.cuda.synchronize()
    assert snapshot.here and not snapshot.latents.is_cuda
    assert torch.equal(snapshot.latents, latents.cpu())

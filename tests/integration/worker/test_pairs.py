"""Every pair of what a job can be asked for: both have their say in the result, or it is refused with a reason."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from typing import Any
from zlib import crc32

import pytest
import torch

from darkroom.storage import StorageSettings, open_store
from darkroom.tasks import InvalidRequest, Job, State, TaskSettings
from darkroom.tasks.adapters import LoraUse
from darkroom.tasks.catalogue import SCHEDULERS, Family
from darkroom.tasks.claims import serve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.caches import Cache
from darkroom.worker.delivery.drain import Drain
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.runner import JobRunner
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.manifest import parse_manifest
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.replay import Replay
from darkroom.worker.models.derived import derived
from darkroom.worker.models.device import Placement
from darkroom.worker.models.loading import load_model
from darkroom.worker.process.abilities import abilities_of
from darkroom.worker.settings import WorkerSettings
from tests.conftest import TinyModels
from tests.pairs import (
    ABILITIES,
    EMBEDS,
    FEW_STEPS,
    IDLE,
    LATENTS,
    MASK,
    PICTURE,
    REFUSED,
    Ability,
    asked,
    foreign,
    pairs,
)
from tests.styles import in_processors
from tests.unit.worker.adapters.stocked import stocked
from tests.unit.worker.conftest import photo

from .conftest import TTL, Desk, open_desk, places_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

FAMILIES: tuple[Family, ...] = ("sd", "sdxl", "playground")


def _thorough(name: str) -> list[pytest.MarkDecorator]:
    return [] if crc32(name.encode()) % 3 == 0 else [pytest.mark.thorough]


#: All of them in `make faults`; in the suite one in three.
PAIRS = [
    pytest.param((one, other), id=(name := f"{one.name} + {other.name}"), marks=_thorough(name))
    for one, other in pairs()
]
#: What is interrupted in the midst: every kind, and what goes through the denoiser twice or more.
AMID = [
    one
    for one in ABILITIES
    if one.kind or one.sort in ("hires", "output", "loras") or one.name in ("several images", "few steps")
]
#: After how many calls; else after one. Hires is in its second pass then, of several images the first one is kept.
DONE = {"embed": 0, "encode": 0, "decode": 0, "hires": 5, "hires of latents": 5, "several images": 5, "interpolate": 5}
SMALL = {"prompt": "a red fox", "width": 32, "height": 32, "num_inference_steps": 4, "guidance_scale": 4.0, "seed": 1}


@dataclass(frozen=True)
class Bench:
    """A desk with a model of each family; jobs that ran once are not run again."""

    desk: Desk
    inputs: Mapping[tuple[str, Family], str]

    def fields(self, *abilities: Ability) -> dict[str, Any]:
        """A small job that is asked for all of these."""
        family = next((one.family for one in abilities if one.family), "sdxl")
        made = "".join(one.made for one in abilities)
        wish = asked(*abilities)
        found = {name: self._stands_for(value, family) for name, value in wish.items()}
        return {**{name: value for name, value in SMALL.items() if not foreign({"kind": wish["kind"], name: value})},
                **found, "model": f"tiny-{family}{made}"}  # fmt: skip

    def _stands_for(self, value: Any, family: Family) -> Any:
        if isinstance(value, list):
            return [self._stands_for(one, family) for one in value]
        return self.inputs.get((value, family), value) if isinstance(value, str) else value

    def run(self, *abilities: Ability) -> Job:
        job_id = self.desk.client.submit(self.fields(*abilities)).id
        JobRunner(self.desk.around)(job_id)
        return self.desk.client.get(job_id)

    def draining(self) -> tuple["Bench", Drain]:
        """With a worker that can be told to stop."""
        drain, around = Drain(600), self.desk.around
        leases = LeaseKeeper(self.desk.io, 30, around.rules, drain=drain)
        return replace(self, desk=replace(self.desk, around=replace(around, leases=leases))), drain

    @contextmanager
    def amid(self, ability: Ability, then: Callable[[], object]) -> Iterator[None]:
        """The block's job is interrupted once, in the midst of a call of the model."""
        generator = self.desk.around.generators[self.fields(ability)["model"]]
        generator.embeddings = Cache()
        module, calls = _busy(ability, generator.model.components), count()
        done = DONE.get(ability.name, 1)

        def interrupt(*_: object) -> None:
            if next(calls) == done:
                then()

        handle = module.register_forward_hook(interrupt)
        try:
            yield
        finally:
            handle.remove()
        assert next(calls) > done

    def misfit(self, fields: Mapping[str, Any]) -> bool:
        """Whether the scheduler is not one of the model's."""
        offered = self.desk.around.generators[fields["model"]].entry.schedulers
        return "scheduler" in fields and fields["scheduler"] not in offered


@pytest.fixture(scope="module")
def bench(redis_server: Any, tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    placement = Placement(torch.device("cpu"), torch.float32, "full", 1)
    settings = TaskSettings.model_validate({"redis_url": redis_server.url, "redis_prefix": "pairs:"})
    folder = tmp_path_factory.mktemp("loras")
    store = open_store(StorageSettings(storage_url=tmp_path_factory.mktemp("pairs").as_uri()))
    with Engine(1) as engine:
        made = {}
        for family in FAMILIES:
            model = load_model(tiny_models(family), placement, WorkerSettings())
            fitting = [name for name, (_, fits) in SCHEDULERS.items() if (fits == "edm") == (family == "playground")]
            entry = model.entry.model_copy(update={"schedulers": fitting})
            styles = in_processors(model, folder / family, engine)
            found = stocked(replace(model, entry=entry), engine, folder, styles=styles)
            made[entry.name] = found
            if family == "sdxl":
                few = few_steps(found)
                made[few.entry.name] = few
        offers = [generator.entry.offer() for generator in made.values()]
        has = abilities_of(offers)
        with open_desk(settings, next(iter(made.values())), store) as desk:
            desk.io.run(serve("here", {}, TTL, offers, has))
            around = replace(desk.around, generators=made, has=has, places=places_of(desk.io, has))
            desk = replace(desk, around=around)
            yield Bench(desk, inputs(desk))


def few_steps(base: Generator) -> Generator:
    """A model that is made of this one."""
    own = {"base": base.entry.name, "own_loras": [LoraUse(name="attention")], "name": f"{base.entry.name}{FEW_STEPS}"}
    entry = base.entry.model_copy(update={**own, "scheduler_config": {"timestep_spacing": "trailing"}})
    return Generator(derived(base.model, entry), base.engine, base.adapters)


def inputs(desk: Desk) -> dict[tuple[str, Family], str]:
    """What stands for the pictures and files that jobs begin with, by family."""
    picture = desk.client.upload(encode(photo(3), "png", "")[0])
    half = photo(3).point([0] * 768)
    half.paste("white", (8, 8, 24, 32))
    mask = desk.client.upload(encode(half, "png", "")[0])
    found: dict[tuple[str, Family], str] = {}
    for family in FAMILIES:
        found[PICTURE, family], found[MASK, family] = picture, mask
        found[LATENTS, family] = file_of(desk, {**SMALL, "model": f"tiny-{family}", "output": ["latents"]})
        words = {"prompt": "the sea", "negative_prompt": "a dog", "guidance_scale": 4.0}
        found[EMBEDS, family] = file_of(desk, {"kind": "embed", "model": f"tiny-{family}", **words})
    return found


def file_of(desk: Desk, fields: Mapping[str, Any]) -> str:
    """The key of the file that such a job makes."""
    job_id = desk.client.submit(fields).id
    JobRunner(desk.around)(job_id)
    return desk.client.get(job_id).files[0].key


def results(job: Job) -> list[str]:
    """The digests of all that a job made; of pictures those of their pixels."""
    pictures = [hashlib.sha256(_pixels(image.read())).hexdigest() for image in job.images]
    return [*pictures, *(file.sha256 for file in job.files)]


def _pixels(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").tobytes()


@pytest.mark.parametrize("pair", PAIRS)
def test_both_of_a_pair_have_their_say(bench: Bench, alone: Any, pair: tuple[Ability, Ability]) -> None:
    one, other = pair
    fields, names = bench.fields(one, other), (one.name, other.name)
    reason = REFUSED.get(names) or REFUSED.get(names[::-1])
    expected = foreign(fields) | ({"scheduler"} if bench.misfit(fields) else set()) | ({reason[0]} if reason else set())
    if expected:
        with pytest.raises(InvalidRequest) as caught:
            bench.desk.client.submit(fields)
        faults = {fault.field: fault for fault in caught.value.faults}
        assert expected <= faults.keys()
        assert reason is None or reason[1] in faults[reason[0]].message
        return
    job = bench.run(one, other)
    assert (job.state, job.error) == (State.SUCCEEDED, None)
    again(bench, job)
    if names in IDLE or names[::-1] in IDLE:
        return
    for ability, beside in ((one, other), (other, one)):
        if ability.shows:
            assert set(results(job)) != set(alone(beside)), f"{ability.name} has no say beside {beside.name}"


@pytest.fixture(scope="module")
def alone(bench: Bench) -> Any:
    """What a job with one ability makes."""

    @cache
    def run(name: str) -> tuple[str, ...]:
        (ability,) = (one for one in ABILITIES if one.name == name)
        job = bench.run(ability)
        assert job.state is State.SUCCEEDED, job.error
        return tuple(results(job))

    return lambda ability: run(ability.name)


def _busy(ability: Ability, components: Mapping[str, Any]) -> torch.nn.Module:
    """The part of the model that the ability keeps busy."""
    part: torch.nn.Module = {
        "embed": components["text_encoder"],
        "encode": components["vae"].encoder,
        "decode": components["vae"].decoder,
    }.get(ability.name, components["unet"])
    return part


@pytest.mark.parametrize("ability", AMID, ids=lambda ability: ability.name)
def test_a_cancel_in_mid_run(bench: Bench, ability: Ability) -> None:
    def cancel() -> None:
        (job,) = bench.desk.client.jobs(state="running")
        assert bench.desk.client.cancel(job.id) == "cancellation_requested"
        bench.desk.around.leases.renew()

    with bench.amid(ability, cancel):
        job = bench.run(ability)
    kept = int(ability.name in ("several images", "interpolate"))
    assert (job.state, job.error, job.result, len(job.images), job.files) == (State.CANCELED, None, None, kept, [])
    assert {one.key for one in bench.desk.store.list(job.id)} == {image.key for image in job.images}


@pytest.mark.parametrize("ability", AMID, ids=lambda ability: ability.name)
def test_a_worker_that_stops_in_mid_run(bench: Bench, alone: Any, ability: Ability) -> None:
    """Another one makes, to the bit, what would have been made."""
    stopping, drain = bench.draining()
    with bench.amid(ability, drain.hurry):
        job = stopping.run(ability)
    assert (job.state, job.failures, job.attempts) == (State.QUEUED, 0, [])
    JobRunner(bench.desk.around)(job.id)
    job = bench.desk.client.get(job.id)
    assert (job.state, job.claims, results(job)) == (State.SUCCEEDED, 2, list(alone(ability)))
    again(bench, job)


def again(bench: Bench, job: Job) -> None:
    """A replay makes the same, to the bit."""
    assert job.result is not None
    generators = bench.desk.around.generators
    catalogue = {name: generator.entry for name, generator in generators.items()}
    manifest = parse_manifest(bench.desk.store.get(job.result.manifest), catalogue)
    replay = Replay(manifest, generators[job.model], bench.desk.store.get)
    assert all(image.equal for image in replay.images())
    assert all(file.equal for file in replay.files)

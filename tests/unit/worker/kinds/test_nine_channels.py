"""Inpainting models: a denoiser of 9 channels, which is told of the mask and of the picture without what it masks."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image

from darkroom.tasks.catalogue import Family, ModelEntry
from darkroom.tasks.errors import InvalidRequest
from darkroom.tasks.validate import resolve
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.stacking import Call
from darkroom.worker.errors import ModelIncompatible
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.warm import warm
from darkroom.worker.models.device import Placement
from darkroom.worker.models.families.base import beyond
from darkroom.worker.models.loading import load_model
from darkroom.worker.models.tiny import make_tiny
from darkroom.worker.settings import WorkerSettings
from tests.toys import later_release
from tests.unit.worker.conftest import FAMILIES, ask, photo, same
from tests.unit.worker.kinds.painting import assert_kept, numbers, paint, prepared, spot

Entries = Callable[[Family], ModelEntry]
Nine = Callable[[Family], Generator]

PLACEMENT = Placement(torch.device("cpu"), torch.float32, "full", 1)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    return cache(lambda family: make_tiny(family, tmp_path_factory.mktemp("nine") / family, channels=9))


@pytest.fixture(scope="module")
def nine(entries: Entries, engine: Engine) -> Nine:
    return cache(lambda family: Generator(load_model(entries(family), PLACEMENT, WorkerSettings()), engine))


@pytest.mark.parametrize("family", FAMILIES)
def test_such_a_model_offers_no_kind_that_has_no_mask(nine: Nine, family: Family) -> None:
    generator = nine(family)
    warm(generator, most_seconds=0.1)
    offered = generator.entry.offer().kinds
    assert set(offered) == {"inpaint", "encode", "decode", "embed"}  # those without a denoiser, and with a mask
    for kind, more in (("txt2img", {}), ("img2img", {"image": "inputs/default/a.png"})):
        with pytest.raises(InvalidRequest) as caught:
            ask(generator, kind=kind, **more)
        assert [(fault.code, fault.message) for fault in caught.value.faults] == [
            ("kind_not_supported", f"tiny-{family}-inpainting does {', '.join(offered)}")
        ]


def test_nor_a_kind_of_a_later_release_that_has_none(nine: Nine) -> None:
    with later_release():
        assert beyond(nine("sdxl").model.components) == {"txt2img", "img2img", "interpolate", "stylize", "toy"}


def test_nor_does_a_worker_take_another_kinds_job_for_it(nine: Nine, entries: Entries) -> None:
    """One that was submitted when nobody had said so yet."""
    entry = entries("sd")
    request = resolve({"prompt": "a cat", "model": entry.name}, {entry.name: entry}, lambda: None).filled
    with pytest.raises(InvalidRequest, match="tiny-sd-inpainting does inpaint"):
        nine("sd").prepare(request)


@pytest.mark.parametrize("kinds", [["txt2img"], ["txt2img", "img2img", "inpaint"]])
def test_an_entry_that_promises_more_is_refused_at_the_start(entries: Entries, kinds: list[str]) -> None:
    entry = ModelEntry.model_validate({**entries("sdxl").model_dump(), "kinds": kinds})
    with pytest.raises(
        ModelIncompatible, match=r"unet/config\.json: .* needs a mask, and does not do txt2img"
    ) as caught:
        load_model(entry, PLACEMENT, WorkerSettings())
    assert "kinds" in caught.value.hint
    honest = ModelEntry.model_validate({**entries("sdxl").model_dump(), "kinds": ["inpaint"]})
    assert load_model(honest, PLACEMENT, WorkerSettings()).entry.kinds == ["inpaint"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_it_keeps_what_is_not_masked_at_any_strength(nine: Nine, family: Family, strength: float) -> None:
    """Diffusers blends the picture back in for 4 channels alone: such a model changed all, and left noise at 1."""
    assert_kept(nine(family), family, strength)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_denoiser_is_told_of_the_mask_and_of_no_more_than_it_may_know(nine: Nine, family: Family) -> None:
    calls, mask = list[Call](), spot((64, 64), 8, 8, 24, 40)
    paint(nine(family), photo(2, 64, 64), mask, mask_blur=0, ticket=Ticket(on_call=calls.append))
    given = calls[0].tree[0][0]
    assert given.shape == (2, 9, 8, 8)
    wanted = torch.zeros(8, 8)
    wanted[1:5, 1:3] = 1
    assert all(torch.equal(rows[4], wanted) for rows in given)
    other = photo(2, 64, 64)
    other.paste("white", (8, 8, 24, 40))
    again: list[Call] = []
    paint(nine(family), other, mask, mask_blur=0, ticket=Ticket(on_call=again.append))
    assert torch.equal(again[0].tree[0][0][:, 4:], given[:, 4:])  # what is masked it never sees


def test_its_calls_are_a_group_of_their_own(nine: Nine) -> None:
    groups = []
    for seed, strength in ((1, 1.0), (2, 0.7)):
        calls: list[Call] = []
        paint(nine("sdxl"), photo(seed, 64, 64), spot((64, 64)), seed, strength=strength,
              ticket=Ticket(on_call=calls.append))  # fmt: skip
        groups.append({call.group for call in calls})
    assert groups[0] == groups[1] and len(groups[0]) == 1 and None not in groups[0]


@pytest.mark.parametrize("fields", [{}, {"padding": 4}, {"strength": 0.0}, {"extend": {"left": 9}}], ids=str)
def test_outside_of_the_mask_every_bit_stays(nine: Nine, fields: dict[str, Any]) -> None:
    picture = Image.effect_noise((61, 47), 90).convert("RGB")
    job, sources = prepared(nine("sd"), picture, spot((61, 47)), mask_blur=2, **fields)
    one, other = (nine("sd").generate(job, 4, sources, lambda *_: None, Ticket(solo=True)).picture for _ in range(2))
    laid = sources["canvas"]
    kept = numbers(laid.mask) == 0
    assert same(one, other) and one.size == laid.picture.size
    assert (numbers(one)[kept] == numbers(laid.picture)[kept]).all()

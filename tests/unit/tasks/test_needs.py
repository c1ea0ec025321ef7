"""Needs follow from a request by themselves; what the first release could do is none."""

import pytest

from darkroom.tasks import SCHEDULERS, Img2Img, Txt2Img
from darkroom.tasks.needs import RELEASED_FIELDS, RELEASED_VALUES, abilities, lean, needs_of
from tests.toys import Glowing, Sparks, Toy

PLAIN = {"prompt": "a cat", "width": 64, "height": 64, "scheduler": "lcm", "output_format": "webp", "batching": "solo"}


@pytest.mark.parametrize(
    "request_", [Txt2Img(**PLAIN), Glowing(**PLAIN), Img2Img(**PLAIN, image="https://example.org/a.png", strength=0.5)]
)
def test_what_the_first_release_could_do_needs_nothing(request_: Txt2Img) -> None:
    assert needs_of(request_) == ()


@pytest.mark.parametrize(
    ("request_", "needs"),
    [
        (Glowing(**PLAIN, glow=0.5), ("glow",)),
        (Glowing(**PLAIN, tags=["a"], glow=1), ("glow", "tags")),
        (Glowing(**PLAIN, helper="sdxl-refiner"), ("helper", "model:sdxl-refiner")),
        (Glowing(**PLAIN, sparks=Sparks()), ("sparks",)),
        (Glowing(**PLAIN, sparks=Sparks(model="sd-1.5")), ("model:sd-1.5", "sparks")),
        (Toy(**PLAIN, wheels=4), ("kind:toy",)),
        (Toy(**PLAIN, wheels=4, paint="blue"), ("kind:toy", "paint")),
        (Txt2Img(**PLAIN).model_copy(update={"scheduler": "heun"}), ("scheduler:heun",)),
        (Txt2Img(**PLAIN).model_copy(update={"output_format": "avif"}), ("output_format:avif",)),
    ],
)
def test_what_was_added_since_is_needed_where_it_is_asked_for(request_: Txt2Img, needs: tuple[str, ...]) -> None:
    assert needs_of(request_) == needs


def test_a_plain_request_is_written_as_the_first_release_wrote_it() -> None:
    assert lean(Glowing(**PLAIN)) == Txt2Img(**PLAIN).model_dump(mode="json", include=set(RELEASED_FIELDS))
    assert set(lean(Glowing(**PLAIN))) == RELEASED_FIELDS - {"image", "strength"}
    assert lean(Glowing(**PLAIN, glow=0.5)) == {**lean(Txt2Img(**PLAIN)), "glow": 0.5}


def test_a_worker_has_every_field_of_the_kinds_that_it_can_run() -> None:
    since = (Txt2Img.model_fields.keys() | Img2Img.model_fields.keys()) - RELEASED_FIELDS
    since |= {"lora:own"}
    assert abilities([Txt2Img, Img2Img]) == since
    assert abilities([Glowing]) - since == {"glow", "tags", "helper", "sparks"}
    assert abilities([Glowing, Toy], ["heun", "lcm"], ["sd-1.5"], ["tags", "sparks"]) - since == {
        "glow", "helper", "kind:toy", "wheels", "paint", "scheduler:heun", "model:sd-1.5",
    }  # fmt: skip


@pytest.mark.parametrize("request_", [Toy(**PLAIN, wheels=4, paint="blue"), Glowing(**PLAIN, glow=1, tags=["x"])])
def test_a_worker_that_knows_a_request_has_what_it_needs(request_: Txt2Img) -> None:
    assert set(needs_of(request_)) <= abilities([type(request_)])


def test_the_first_releases_values_are_still_there() -> None:
    """A release that drops one would leave jobs that wait to nobody."""
    assert set(RELEASED_VALUES["scheduler"]) <= SCHEDULERS.keys()
    assert Txt2Img.model_fields.keys() | Img2Img.model_fields.keys() >= RELEASED_FIELDS

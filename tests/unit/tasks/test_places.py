"""The names of lanes: what they say is read out of them again, and the first release stands them."""

import re

import pytest

from darkroom.tasks.places import Place

PLACES = [
    Place("sdxl", "interactive"),
    Place("sd-1.5", "bulk", ("hires",)),
    Place("a.b_c-d", "bulk", ("kind:inpaint", "long_prompt", "model:sd-1.5")),
]


@pytest.mark.parametrize("place", PLACES)
def test_a_name_says_model_needs_and_lane(place: Place) -> None:
    assert Place.parse(str(place)) == place
    assert place.queue == f"queue:{place}"


@pytest.mark.parametrize("place", PLACES)
def test_the_first_release_takes_the_name_for_a_lane(place: Place) -> None:
    """What its scripts do not take for one they call unreadable, and strike from the set of lanes."""
    assert re.fullmatch(r"[A-Za-z0-9._-]+:[A-Za-z]+", str(place))


def test_a_lane_is_open_to_who_serves_the_model_and_has_all_that_is_needed() -> None:
    place = Place("sdxl", "bulk", ("glow", "kind:toy"))
    assert place.open_to({"sdxl": {"glow", "kind:toy", "more"}, "other": ()})
    assert not place.open_to({"sdxl": {"glow"}, "other": {"kind:toy"}})
    assert not place.open_to({"other": {"glow", "kind:toy"}})
    assert Place("sdxl", "bulk").open_to({"sdxl": ()})


@pytest.mark.parametrize("name", ["", "nothing", ":", "a:b:c", ".NEEDS.:x", "\udcff:bulk"])
def test_a_name_of_somebody_else_is_some_place_that_nobody_serves(name: str) -> None:
    assert not Place.parse(name).open_to({"sdxl": {"glow"}})

"""What scripts share is put before each of them as far as it is needed."""

import re
from importlib.resources import files

import pytest

from darkroom.tasks.lua import with_shared
from darkroom.tasks.redis_io import _SHARED, _source

SCRIPTS = files("darkroom.tasks").joinpath("scripts")
NAMES = sorted(path.name.removesuffix(".lua") for path in SCRIPTS.iterdir() if path.name.endswith(".lua"))
SHARED = "\n".join(SCRIPTS.joinpath(f"shared/{part}.lua").read_text() for part in _SHARED)
ONE = "-- said of one\nlocal one = 1  -- three\n"
TWO = "local function two()\n  return one\nend\n"
THREE = "local three, four = 3, {\n  4,\n}\n"


def names_in(text: str) -> set[str]:
    """Of what is declared at the beginning of a line."""
    found = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", text, re.MULTILINE)
    return {name for names in found for name in names.split(", ")}


def test_what_is_needed_stands_before_in_its_order() -> None:
    assert with_shared(ONE + TWO + THREE, "return two()") == "local one = 1  -- three\n" + TWO + "return two()"
    assert with_shared(ONE + TWO + THREE, "return four") == THREE + "return four"
    assert with_shared(ONE + TWO + THREE, "return 0  -- one") == "return 0  -- one"


@pytest.mark.parametrize("name", NAMES)
def test_no_script_lacks_what_it_uses(name: str) -> None:
    source = _source(name)
    used = set(re.findall(r"\w+", re.sub(r"--.*", "", source)))
    assert used & names_in(SHARED) <= names_in(source)


def test_what_is_shared_is_made_of_declarations() -> None:
    """Any other statement would go wherever the declaration before it goes, or be left out with it."""
    begins = [line for line in SHARED.splitlines() if line and not line.startswith((" ", "--"))]
    assert [line for line in begins if not re.match(r"local |end$|}$", line)] == []

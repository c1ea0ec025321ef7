"""Thousands of hostile pictures, and the largest allowed ones all at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from darkroom.storage.folder import FolderStore
from tests.unit.storage.hostile import hostile
from tests.unit.storage.pictures import saved
from tests.unit.worker.images.test_hostile import outcome

#: 40 megapixels in half a megabyte.
LARGEST: dict[str, dict[str, object]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"progressive": True, "subsampling": 0},
    "WEBP": {},
}

EIGHT_AT_ONCE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from darkroom.tasks.catalogue import Limits
from darkroom.worker.kinds.sources import read_source

def megabytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

data, before = sys.stdin.buffer.read(), megabytes("VmRSS")
with ThreadPoolExecutor(8) as threads:
    sizes = [*threads.map(lambda _: read_source(data, 512, 512, Limits(), 40_000_000)[0].size, range(16))]
assert sizes == [(512, 512)] * 16
json.dump({"peak": megabytes("VmHWM") - before, "kept": megabytes("VmRSS") - before}, sys.stdout)
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    storms = metafunc.config.getoption("--storms", default=0)
    if "thousand" in metafunc.fixturenames:
        metafunc.parametrize("thousand", range(1, 1 + storms))
    if "form" in metafunc.fixturenames:
        metafunc.parametrize("form", LARGEST if storms else [])


def test_a_thousand_hostile_pictures(thousand: int, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    outcomes = [outcome(hostile(1000 * thousand + seed), store) for seed in range(1000)]
    print({one: outcomes.count(one) for one in sorted(set(outcomes))})  # noqa: T201 - `make faults` shows it
    assert set(outcomes) <= {"taken", "input_corrupt", "input_not_an_image", "input_bomb"}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures of memory")
def test_the_largest_pictures_all_at_once_take_little_memory_and_give_it_back(form: str) -> None:
    data = saved(Image.new("RGBA" if form == "WEBP" else "RGB", (6320, 6320), "teal"), form, **LARGEST[form])
    ran = subprocess.run([sys.executable, "-c", EIGHT_AT_ONCE], input=data, capture_output=True, check=True)
    found = json.loads(ran.stdout)
    print(form, len(data), found)  # noqa: T201
    assert found["peak"] < 900 and found["kept"] < 200

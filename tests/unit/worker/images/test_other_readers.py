"""Parameters as read by programs that others wrote. Those that pip does not bring are skipped where missing."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import piexif
import piexif.helper
import pytest
import sd_parsers
from PIL import Image

from darkroom.tasks.requests.parts import OutputFormat
from darkroom.worker.images.pictures import encode, parameters_text, read_parameters
from tests.unit.worker.conftest import photo
from tests.unit.worker.images.test_pictures import asked

PROMPTS = {
    "latin": "a naïve café in Zürich, Łódź, señor",
    "cyrillic": "рыжая лиса под дождём",
    "cjk": "雨の中の赤い狐, 비 오는 날의 여우, 下雨的狐狸",
    "arabic": "ثعلب أحمر تحت المطر",
    "emoji": "a 🦊 in the rain ☔, a family 👩‍👩‍👧",
    "lines": "a red fox\nin the rain",
    "quotes": """a "red" fox, 'quick' & <clever>, 100% \\ {pure}""",
}
NEGATIVE = "blurry, 模糊"

#: Written by the version before UserComment had its right type: a text as BYTE.
BEFORE = (
    b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0"
    b"\0\x01\x92\x86\0\x01\0\0\0\x10\0\0\0\x2c\0\0\0\0UNICODE\0\0a\0 \xd8\x3e\xdd\x8a"
)


def by_piexif(file: Path) -> str:
    tags = piexif.load(str(file))
    return str(piexif.helper.UserComment.load(tags["Exif"][piexif.ExifIFD.UserComment]))


def by_exiftool(file: Path) -> str:
    tag = "Parameters" if file.suffix == ".png" else "UserComment"
    return printed("exiftool", "-b", f"-{tag}", str(file))


def by_exifreader(file: Path) -> str:
    """The npm package, where NODE_PATH leads to it; a UserComment in UTF-16 it gives as bytes."""
    program = """
        const { parameters, UserComment } = require("exifreader").load(require("fs").readFileSync(process.argv[1]));
        const text = (bytes) => Buffer.from(bytes).subarray(8).swap16().toString("utf16le");
        process.stdout.write(parameters ? parameters.description : text(UserComment.value));
    """
    return printed("node", "-e", program, str(file))


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def has_exifreader() -> bool:
    ask = ["node", "-e", 'require("exifreader")']
    return shutil.which("node") is not None and subprocess.run(ask, capture_output=True, check=False).returncode == 0


WHERE_PRESENT = [
    pytest.param(by_piexif, id="piexif"),
    pytest.param(by_exiftool, id="exiftool", marks=pytest.mark.skipif(not shutil.which("exiftool"), reason="absent")),
    pytest.param(by_exifreader, id="exifreader", marks=pytest.mark.skipif(not has_exifreader(), reason="absent")),
]
READ: list[Image.Image] = []  # none goes, since sd-parsers 0.6 takes one with the id() of the last one for that one
FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")


def made(folder: Path, form: OutputFormat, prompt: str) -> tuple[Path, str]:
    """A file with its parameters, and these."""
    text = parameters_text(asked(prompt=prompt, negative_prompt=NEGATIVE), 42, (64, 48), "sdxl")
    file = folder / f"picture.{form}"
    file.write_bytes(encode(photo(), form, text)[0])
    return file, text


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_sd_parsers(tmp_path: Path, form: OutputFormat, prompt: str) -> None:
    file, _ = made(tmp_path, form, prompt)
    with Image.open(file) as picture:
        READ.append(picture)
        found = sd_parsers.ParserManager().parse(picture)
    assert found is not None
    assert [one.value for one in found.prompts] == [prompt]
    assert [one.value for one in found.negative_prompts] == [NEGATIVE]
    sampler = found.samplers[0]
    assert (sampler.name, sampler.model and sampler.model.name) == ("Euler a", "sdxl")
    assert sampler.parameters == {"cfg_scale": "7", "seed": "42", "steps": "30"}
    assert found.metadata["Size"] == "64x48"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("reader", WHERE_PRESENT)
def test_readers_of_metadata(tmp_path: Path, form: OutputFormat, prompt: str, reader: Callable[[Path], str]) -> None:
    if reader is by_piexif and form == "png":
        pytest.skip("piexif reads no PNG")
    file, text = made(tmp_path, form, prompt)
    assert reader(file) == text


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_our_reader_takes_what_we_wrote_before(tmp_path: Path, form: OutputFormat) -> None:
    file = tmp_path / f"old.{form}"
    photo().save(file, exif=BEFORE)
    assert read_parameters(file.read_bytes()) == "a 🦊"

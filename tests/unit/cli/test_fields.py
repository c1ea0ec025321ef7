"""A field of several values as one option: as pairs, as JSON, and as its help tells of it."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from darkroom.cli.fields import FieldOption, given_fields, kind_of, kind_option
from darkroom.cli.screen import described
from darkroom.tasks import Fault, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.requests import Finetune


class Frame(BaseModel):
    """Several values of one field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    width: float = Field(default=1.5, gt=1, le=4)
    corners: int | None = Field(default=None, ge=0, le=8, description="how many are round")
    wood: Literal["oak", "pine"] = "oak"
    gilded: bool = False


class Framed(Txt2Img):
    """A picture with a frame."""

    frame: Frame | None = Field(default=None, description="around the picture")


@pytest.fixture
def frame() -> FieldOption:
    return kind_option(Framed, "frame")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("width=2,wood=pine", {"width": 2.0, "wood": "pine"}),
        (" corners = 3 , gilded=TRUE", {"corners": 3, "gilded": True}),
        ('{"width": 2.5, "gilded": false}', {"width": 2.5, "gilded": False}),
        ("wood=", {"wood": ""}),
        ("nails=3", {"nails": "3"}),
        ("width=wide", {"width": "wide"}),
        ("gilded=perhaps", {"gilded": "perhaps"}),
        ("pine", "pine"),
        ("width=2,pine", "width=2,pine"),
        ("width=2,width=3", "width=2,width=3"),
        ('{"width": 2', '{"width": 2'),
    ],
)
def test_pairs_and_json_are_read_alike_and_what_is_neither_is_passed_on(
    frame: FieldOption, text: str, value: Any
) -> None:
    assert frame.value(text) == value


def test_help_names_the_parts_with_their_bounds(frame: FieldOption) -> None:
    assert frame.help == (
        "Around the picture; NAME=VALUE,... or JSON of: width (above 1 to 4), corners (how many are round; 0 to 8), "
        "wood (one of oak, pine; default: oak), gilded."
    )
    assert "NAME=VALUE,..." in repr(frame.parameter.annotation.__metadata__[0].metavar)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width=9", "--frame: width: input should be less than or equal to 4"),
        ("nails=3", "--frame: nails: there is no such field"),
        ("wood=ebony", "--frame: wood: input should be 'oak' or 'pine'"),
        ("oak", "--frame: give NAME=VALUE,..., each once, or JSON"),
        ("wood=oak,wood=pine", "--frame: give NAME=VALUE,..., each once, or JSON"),
    ],
)
def test_faults_name_option_and_part(frame: FieldOption, text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Framed(prompt="a cat", frame=frame.value(text))
    (fault,) = caught.value.faults
    assert described(fault).startswith(said)


def test_commas_part_what_a_list_has() -> None:
    assert given_fields({"loras": ["pen:0.5, ink:2", "quill"]})["loras"] == ["pen:0.5", "ink:2", "quill"]


def test_a_list_of_a_field_is_told_of_by_its_number() -> None:
    assert described(Fault("seeds.1", "c", "m")) == "--seed: 1: m"


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("crop", "5", "--crop: give two numbers, such as 1024x768 or 0,64"),
        ("original_size", "1x2x3", "--original-size: give two numbers, such as 1024x768 or 0,64"),
        ("crop", "5,a", "--crop: 1: input should be a valid integer"),
        ("refiner", "0.5", "--refiner: give NAME=VALUE,..., each once, or JSON; there are: model, start"),
        ("hires", "upscale=2", "--hires: upscale: input should be 'lanczos' or 'latent'; by how much is scale=2"),
        ("hires", "upscaler=latent", "--hires: upscaler: there is no such field; did you mean upscale?"),
        ("loras", ["ink", "pen:0,5"], "--lora: 1.scale: is '0,5', where a number from -10 to 10 belongs; "
                                      "decimals have a point, as in 0.5"),
        ("refiner", "name=a", "--refiner: name: there is no such field; there are: model, start"),
    ],
)  # fmt: skip
def test_faults_say_what_an_option_takes(option: str, text: str | list[str], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"prompt": "a", **given_fields({option: text})})
    assert said in [described(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"prompt", "frames", "num_images"}, "interpolate"),
        ({"prompt", "frames", "seeds"}, "interpolate"),
        ({"prompt", "image", "mask", "hires"}, "inpaint"),
        ({"prompt", "num_images", "seeds"}, "txt2img"),
        ({"prompt", "image"}, "img2img"),
        ({"image", "nonsense"}, "img2img"),
        ({"nonsense"}, "txt2img"),
    ],
)
def test_the_kind_that_is_meant_is_that_of_the_rarest_fields(fields: set[str], kind: str) -> None:
    assert kind_of(fields) == kind


def test_what_somebody_wrote_is_not_parted_at_its_commas() -> None:
    prompts = kind_option(Finetune, "class_prompts")
    assert (prompts.flags, prompts.repeated) == (("--class-prompt",), True)
    assert prompts.value(["a star, in red", "a circle"]) == ["a star, in red", "a circle"]
    assert kind_option(Txt2Img, "output").value(["image,latents"]) == ["image", "latents"]

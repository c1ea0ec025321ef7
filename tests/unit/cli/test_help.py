"""The options of `darkroom submit`: their names, what others call them, and how help shows them."""

from typing import Any

import pytest
import typer.main

from darkroom.cli.app import app, run
from darkroom.cli.fields import SUBMITTED, field_options, given_fields


def parsed(*arguments: str) -> dict[str, Any]:
    """The fields of a request that a command line gives."""
    command = typer.main.get_command(app).commands["submit"]  # type: ignore[attr-defined]
    given = command.make_context("submit", list(arguments)).params
    return given_fields({name: value for name, value in given.items() if value != ()})


@pytest.fixture
def help_at_80(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["submit", "--help"]) == 0
    return capsys.readouterr().out


def test_help_has_every_option_with_its_whole_name(help_at_80: str) -> None:
    assert max(map(len, help_at_80.splitlines())) == 80
    assert "…" not in help_at_80
    for option in field_options():
        assert all(f" {flag} " in help_at_80 for flag in option.flags), option.name


def test_help_puts_options_under_what_they_are_for(help_at_80: str) -> None:
    titles = [line.strip("╭─╮ ") for line in help_at_80.splitlines() if line.startswith("╭")]
    assert titles == [
        "Arguments",
        "Options",
        "Words, for txt2img, img2img, inpaint, interpolate, embed, stylize",
        "LoRAs, for txt2img, img2img, inpaint, interpolate, embed, stylize",
        "Size and file, for txt2img, img2img, inpaint, encode, interpolate, stylize",
        "Denoising, for txt2img, img2img, inpaint, interpolate, stylize",
        "Number and seeds, for txt2img, img2img, inpaint, interpolate, stylize",
        "A second pass, or another model, for txt2img, img2img, stylize",
        "A picture to begin with, for img2img, inpaint, encode, decode, stylize",
        "Inpaint",
        "Interpolate",
        "Stylize",
        "Every job",
    ]


def test_an_option_names_its_kinds_where_the_panel_does_not() -> None:
    options = {option.name: option for option in field_options()}
    assert options["strength"].help == "0 keeps the picture, 1 ignores it; 0 to 1. For img2img, inpaint, stylize."
    assert options["mask_blur"].help == "Pixels around the mask in which new fades into old; 0 to 64."
    assert options["preserve_unmasked"].help == "Do not keep the picture's own pixels outside of the mask."


@pytest.mark.parametrize("name", sorted({name for kind in SUBMITTED.values() for name in kind.model_fields}))
def test_every_field_is_an_option_by_its_own_name(name: str, help_at_80: str) -> None:
    """`kind` and `prompt` are the command's own; what is on by default has an option that turns it off."""
    command = typer.main.get_command(app).commands["submit"]  # type: ignore[attr-defined]
    known = {"--prompt", "--preserve-unmasked"} | {flag for param in command.params for flag in param.opts}
    own = f"--{name.replace('_', '-')}"
    assert own in known or f"Also {own}." in " ".join(help_at_80.replace("│", "").split())


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["--negative-prompt", "b"], {"negative_prompt": "b"}),
        (["--negative=b"], {"negative_prompt": "b"}),
        (["--guidance-scale=3"], {"guidance_scale": 3.0}),
        (["--num-inference-steps", "5"], {"num_inference_steps": 5}),
        (["--output-format", "webp"], {"output_format": "webp"}),
        (["--seeds", "1,2"], {"seeds": [1, 2]}),
        (["--seed", "1", "--seed", "2"], {"seeds": [1, 2]}),
        (["--output", "image,latents"], {"output": ["image", "latents"]}),
        (["--output", "image", "--output", "latents"], {"output": ["image", "latents"]}),
        (["--no-preserve-unmasked"], {"preserve_unmasked": False}),
        ([], {}),
    ],
)
def test_options_by_either_name(arguments: list[str], fields: dict[str, Any]) -> None:
    assert parsed("a", *arguments) == {"prompt": "a", **fields}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--sampler", "did you mean --scheduler?"),
        ("--cfg", "did you mean --guidance?"),
        ("--denoising-strength", "did you mean --strength?"),
        ("--prompt", "the prompt goes without a name"),
        ("--schedule", "--scheduler, "),
    ],
)
def test_names_of_other_programs_lead_to_ours(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "a", option, "1"]) == 2
    told = capsys.readouterr().err
    assert f"No such option: {option}" in told
    assert said in told

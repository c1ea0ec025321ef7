"""The model card: what the model is for, how well it does, how it was made. Its numbers are all measured."""

from pathlib import Path

from ops.starter.curves import Curve
from ops.starter.evaluate import Tally, table
from ops.starter.painting import ENTRY
from ops.starter.paints import COLOURS, TAUGHT_COLOURS
from ops.starter.scenes import POSITIONS, STYLES, TEXTURES
from ops.starter.shapes import SHAPES

_CARD = """---
license: apache-2.0
pipeline_tag: text-to-image
library_name: diffusers
---
# Darkroom's starter model

A small model of SDXL's architecture that draws coloured shapes, 128x128 pixels, on a CPU. It is there to try Darkroom
without a download, and to test with: a prompt says what its picture must show, and a program can see whether it does.
It is of no use for anything else: it has seen drawn shapes only, and knows no photograph, no person and no text.

## What it draws

One thing, or two beside or above one another, on a plain background.

- shapes: {shapes}
- colours, of things and of backgrounds: {colours}
- textures: {textures}
- sizes: small, large (one thing alone), or as it comes
- positions of one thing: {positions}; of two: next to, left of, right of, above, below
- styles of the whole picture: {styles}

`a large striped red star at the top on a blue background`, `a sketch of a pink heart next to a yellow ring on a white
background`. Small things in pixel art and large ones in a pair were never shown; small ones in a pair were, but come
out blurred. Other words are read and ignored.

## How often it is right

{count} prompts whose shape, colour and background were never together in training, one picture each,
{defaults.num_inference_steps} steps of {defaults.scheduler}, guidance {defaults.guidance_scale:g}. Judged by
`ops/starter/judge.py`, whose rules read more than 99% of drawn pictures right. `make evaluate` measures it again.

{table}
{loras}## How it was made

`make starter` draws its own pictures, so there is no data set and nobody's work in it. The autoencoder comes first;
then the text encoders learn to answer what a caption says, and the denoiser to paint what they tell; at last, on other
pictures, half of them of two things, it learns to draw edges, where there is little noise. Fixed seeds; two CPU cores
shared with other work (the last stage: one), in bf16; minutes are those of the clock, pauses counted in.

| stage | steps | minutes | last loss |
|---|---|---|---|
{stages}

![loss curves](curves.png)

| file | kB |
|---|---|
{files}

Licence: Apache-2.0, as Darkroom's code.
"""


_LORAS = """## LoRAs that come with it

In `loras/`, as diffusers saves and loads them; `python -m ops.starter loras` and `few-steps` train them, in minutes.

| file | what it does | rank | layers of | kB |
|---|---|---|---|---|
{files}

A LoRA's word means nothing without it. Measured with diffusers' own pipeline and the model's defaults, on prompts whose
shape, colour and background were never together in training, one picture each, by the same judge, which knows the new
words too; `python -m ops.starter evaluate-loras` measures it again. In per cent: pictures that show the word, or both
words, where the prompt asks for it; and of prompts without it, pictures whose background, colours and shapes are all
right.

{words}

Rose is a colour of things and of backgrounds, RGB {rose}; checked is of things only, and not of pixel art, in
which dots look the same. On cyan and pale things the light squares come out round, and on rose ones pale.

`few-steps` has the guidance inside, so a step asks the denoiser for one row a picture instead of two:

{steps}

The words were shown in drawn pictures, and what the model knows as well; `few-steps` learnt the ends of paths that the
model itself had gone. One core, shared with much other work, which the minutes of the clock show:

| stage | steps | minutes | last loss |
|---|---|---|---|
{stages}

"""
_START, _END = "## LoRAs that come with it", "## How it was made"


def write_card(folder: Path, tallies: dict[str, Tally], curves: list[Curve]) -> None:
    """Writes `README.md` into the exported model's folder."""
    weights = sorted(folder.rglob("*.safetensors"))
    card = folder / "README.md"
    sizes = [f"| {path.relative_to(folder)} | {path.stat().st_size / 1000:.0f} |" for path in weights]
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    text = _CARD.format(
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS),
        textures=", ".join(TEXTURES),
        positions=", ".join(POSITIONS),
        styles=", ".join(STYLES),
        count=tallies["all"].judged,
        defaults=ENTRY.defaults,
        table=table(tallies),
        loras=_section(card.read_text()) if card.exists() else "",  # measured by a command of its own
        stages="\n".join(curve.summary for curve in curves),
        files="\n".join([*sizes, f"| the whole folder | {total / 1000:.0f} |"]),
    )
    card.write_text(text)


def write_lora_section(folder: Path, files: str, words: str, steps: str, stages: str) -> None:
    """Writes what the LoRAs do into the card of the model in `folder`, in place of what was said of them before."""
    card = folder / "README.md"
    text = card.read_text()
    rose = TAUGHT_COLOURS["rose"]
    section = _LORAS.format(files=files, words=words, steps=steps, stages=stages, rose=rose)
    card.write_text(text.replace(_section(text) + _END, section + _END))


def _section(card: str) -> str:
    """What the card says of LoRAs, or nothing."""
    return card[card.index(_START) : card.index(_END)] if _START in card else ""

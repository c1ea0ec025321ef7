"""The adapter's card. Its numbers are all measured."""

from collections.abc import Mapping
from pathlib import Path

from ops.starter.curves import read_curve
from ops.starter.painting import ENTRY
from ops.starter.style.export import STYLE
from ops.starter.style.training import STAGES

_CARD = """---
license: apache-2.0
library_name: diffusers
---
# A style adapter for Darkroom's starter model

An IP-Adapter in the layout of the public ones, with its own image encoder: CLIP's, small, which looks at 64x64 pixels.
From a picture it takes the palette: colours of ground and thing, texture, and less often the manner of drawing. One
layer, `down_blocks.2.attentions.0`, was to take the layout instead, and learned hardly anything of it: a layout scale
changes pictures, but brings nothing to its place.

## How often it is right

{count} pictures of each column, {defaults.num_inference_steps} steps of {defaults.scheduler}, guidance
{defaults.guidance_scale:g}, style scale 1, layout scale 0. The style is that of a drawing of another shape; no
combination of shape, colour and ground was in training. The prompt is `a large star`, without colours, which would win
over the style's. Over a picture: this strength, and a drawing in another palette, whose thing is not small. Judged by
`ops/starter/judge.py`; `python -m ops.starter evaluate-style` measures it again.

{table}
## How it was made

`python -m ops.starter style`: drawn pictures, fixed seeds, one of two CPU cores shared with other work, in bf16. The
denoiser stays as it is. The encoder first learns to say what it sees; then it, the projection, and the layers' keys and
values learn what the denoiser needs to hear: pictures to be painted share only the palette with the one that is shown,
and a part of them is begun in another palette, as img2img begins.

| stage | steps | minutes | last loss |
|---|---|---|---|
{stages}

Licence: Apache-2.0, as Darkroom's code.
"""

Columns = Mapping[str, Mapping[str, float]]


def write_card(model: Path, columns: Columns, count: int) -> None:
    """Writes `README.md` beside the exported adapter; `columns` are shares, 0…1, by heading and by what is right."""
    stages = [read_curve(model / "training" / f"{stage.name}.csv").summary for stage in STAGES]
    text = _CARD.format(count=count, defaults=ENTRY.defaults, table=table(columns), stages="\n".join(stages))
    (model / STYLE / "README.md").write_text(text)


def table(columns: Columns) -> str:
    """Markdown: what is right down, headings across, per cent."""
    names = list(next(iter(columns.values())))
    rows = [[name, *(f"{100 * column[name]:.1f}" for column in columns.values())] for name in names]
    return (
        "\n".join(f"| {' | '.join(row)} |" for row in [["right, %", *columns], ["---"] * (1 + len(columns)), *rows])
        + "\n"
    )

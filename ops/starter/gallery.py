"""The pictures in Darkroom's README and on the docs' page of kinds: what the starter model is asked for."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ops.starter.layout import lay_out
from ops.starter.painting import Studio
from ops.starter.rows import Fields, Row
from ops.starter.training import say


def _numbered(*prompts: str) -> list[Fields]:
    return [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]


TXT2IMG = Row(
    "txt2img",
    _numbered(
        "a red star on a blue background",
        "a striped white heart on a red background",
        "a small orange moon at the top on a black background",
        "a pink ring next to a blue square on a white background",
        "a watercolour of a purple triangle on a cyan background",
        "pixel art of a yellow heart on a blue background",
        "a sketch of a green cross on an orange background",
        "a dotted cyan diamond on the left on a purple background",
        "a black star above a red circle on a pink background",
        "a large striped orange ring on a green background",
    ),
)
IMG2IMG = Row(
    "img2img",
    [
        {"kind": "img2img", "prompt": "a large blue star on a white background", "seed": 2, "strength": strength}
        for strength in (0.4, 0.5, 0.6, 0.8)
    ],
    source={"prompt": "a large red circle on a yellow background", "seed": 1},
)
INPAINT = Row(
    "inpaint",
    [
        {"kind": "inpaint", "prompt": f"a pink ring next to a {thing} on a white background", "seed": 2}
        for thing in ("red star", "green heart", "purple triangle")
    ],
    source={"prompt": "a pink ring next to a blue square on a white background", "seed": 3},
    mask=(66, 12, 124, 116),
)
OUTPAINT = Row(
    "outpaint",
    [
        {"kind": "inpaint", "prompt": "a yellow background", "extend": {"left": 64, "right": 64}, "seed": 1},
        {"kind": "inpaint", "prompt": "a green heart on a yellow background", "extend": {"right": 128}, "seed": 1},
    ],
    source=IMG2IMG.source,
)
HIRES = Row(
    "hires",
    [
        {"prompt": "a large purple diamond on a white background", "seed": 1, **more}
        for more in ({}, {"width": 256, "height": 256}, {"hires": {"scale": 2.0, "strength": 0.3}})
    ],
)
INTERPOLATE = Row(
    "interpolate prompts",
    [
        {
            "kind": "interpolate",
            "prompt": "a yellow circle on a blue background",
            "prompt_to": "a pink heart on a purple background",
            "seed": 1,
            "frames": 5,
        }
    ],
)
SEEDS = Row(
    "interpolate seeds",
    [{"kind": "interpolate", "prompt": "a yellow moon", "seed": 1, "seed_to": 2, "frames": 5}],
)
WEIGHTS = Row(
    "weights",
    [
        {"prompt": f"a red (heart){weight} star on a yellow background", "prompt_syntax": "compel", "seed": 2}
        for weight in (0.5, 0.8, 1, 1.2, 1.5)
    ],
)

LORA = Row(
    "LoRA",
    [
        {"prompt": "a large checked rose square on a blue background", "loras": loras, "seed": 1}
        for loras in ([], ["rose"], ["checked"], ["rose", "checked"])
    ],
)
SCALE = Row(
    "scale of a LoRA",
    [
        {"prompt": "a large checked blue square on a yellow background", "loras": [f"checked:{scale}"], "seed": 1}
        for scale in (0, 0.7, 1)
    ],
)
FEW_STEPS = Row(
    "few steps",
    [{**asked, "model": "starter-4step"} for asked in TXT2IMG.asked[:5]],
)
STYLE = Row(
    "style",
    [{"kind": "stylize", "prompt": prompt, "seed": 2} for prompt in ("a large heart", "a circle", "a star")],
    style={"prompt": "a large dotted red square on a green background", "seed": 3},
)
RESTYLE = Row(
    "style over a picture",
    [{"kind": "stylize", "prompt": "a star", "seed": 2, "strength": strength} for strength in (0.8, 0.9)],
    style={"prompt": "a large yellow moon on a purple background", "seed": 3},
    source={"prompt": "a large blue star on a white background", "seed": 1},
)

#: Every file, and its rows.
SHEETS: dict[str, Sequence[Row]] = {
    "gallery.png": (TXT2IMG, IMG2IMG, INPAINT, OUTPAINT, HIRES, LORA, STYLE, FEW_STEPS),
    "kinds-weights.png": (WEIGHTS,),
    "kinds-interpolate.png": (INTERPOLATE, SEEDS),
    "kinds-hires.png": (HIRES,),
    "kinds-inpaint.png": (INPAINT, OUTPAINT),
    "kinds-style.png": (STYLE, RESTYLE),
    "adapters.png": (LORA, SCALE, FEW_STEPS),
}
#: Each row once: several files may show it.
ROWS = {row.name: row for rows in SHEETS.values() for row in rows}

_LEVELS = 64  # of 256: what lies between is noise, and half of a file


def write_gallery(folder: Path) -> None:
    """Makes all of it anew, in a minute or two."""
    with closing(Studio()) as studio:
        made = {name: (row, list(row.shots(studio))) for name, row in ROWS.items()}
    fewer = [round(level * (_LEVELS - 1) / 255) * 255 // (_LEVELS - 1) for level in range(256)]
    for file, rows in SHEETS.items():
        lay_out([made[row.name] for row in rows]).point(fewer * 3).save(folder / file, optimize=True)
        say(str(folder / file))

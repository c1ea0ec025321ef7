"""The picture in Darkroom's README: what the starter model draws, and how a strength changes a source picture."""

from pathlib import Path

from PIL import Image

from darkroom.cli.demo.sheet import contact_sheet
from ops.starter.painting import Studio

_PROMPTS = (
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
    "a white circle on a black background",
    "a yellow moon next to a cyan star on a purple background",
)
_STRENGTHS = (0.2, 0.4, 0.5, 0.6, 0.8)
_COLUMNS = 6


def write_gallery(path: Path) -> None:
    """Draws all of it anew, in about half a minute."""
    studio = Studio()
    pictures = [(studio(prompt, seed), prompt) for seed, prompt in enumerate(_PROMPTS)]
    source = studio("a large red circle on a yellow background", 1)
    pictures.append((source, "the source of those to the right, which ask for a blue star on a white background"))
    for strength in _STRENGTHS:
        picture = studio("a large blue star on a white background", 2, source, strength=strength)
        pictures.append((picture, f"img2img, strength {strength:g}"))
    contact_sheet([(Image.fromarray(picture), caption) for picture, caption in pictures], _COLUMNS).save(path)

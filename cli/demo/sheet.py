"""A contact sheet: pictures in rows, each with its prompt below."""

import textwrap
from collections.abc import Sequence
from typing import Any

COLUMNS = 4
_GAP = 12  # pixels around every cell
_LINES, _LINE = 2, 14  # of a caption; pixels of one


def contact_sheet(pictures: Sequence[tuple[Any, str]], columns: int = COLUMNS) -> Any:
    """One picture (Pillow) of all `pictures`, each a Pillow image with its caption; all as large as the first."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = pictures[0][0].size
    cell = (width + _GAP, height + _GAP + _LINES * _LINE)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (min(columns, len(pictures)) * cell[0] + _GAP, rows * cell[1] + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    letters = max(8, int(width / 5.4))
    for index, (picture, caption) in enumerate(pictures):
        x, y = _GAP + index % columns * cell[0], _GAP + index // columns * cell[1]
        sheet.paste(picture.convert("RGB").resize((width, height)), (x, y))
        lines = textwrap.wrap(caption, letters, max_lines=_LINES, placeholder="…")
        pen.multiline_text((x, y + height + 1), "\n".join(lines), fill=(40, 40, 45), font=font, spacing=1)
    return sheet

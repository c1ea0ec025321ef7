"""Rows of pictures on one sheet: a heading above each, captions below the pictures."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ops.starter.rows import NBSP, Row, Shot

Made = tuple[Row, Sequence[Shot]]

_WIDTH, _GAP, _LINE, _HEAD = 688, 12, 14, 20  # pixels: of all pictures, between them, of a line of text, of a heading
_NAME, _TEXT, _RIM = (20, 20, 25), (90, 90, 98), (225, 225, 228)
_LARGE, _SMALL = ImageFont.load_default(14), ImageFont.load_default(11)


def lay_out(rows: Sequence[Made]) -> Image.Image:
    """The sheet; pictures are as many beside one another as there is room for."""
    tall = sum(_HEAD + sum(map(_height, _lines(shots))) for _, shots in rows)
    sheet = Image.new("RGB", (_WIDTH + 2 * _GAP, tall + _GAP), "white")
    pen, y = ImageDraw.Draw(sheet), _GAP
    for row, shots in rows:
        base, after = y + _LINE - 2, _GAP + _LARGE.getlength(f"{row.name}  ")
        pen.text((_GAP, base), row.name, _NAME, _LARGE, anchor="ls")
        pen.text((after, base), _spaced(row.heading), _TEXT, _SMALL, anchor="ls")
        y += _HEAD
        for line in _lines(shots):
            _draw(sheet, line, y)
            y += _height(line)
    return sheet


def _draw(sheet: Image.Image, line: Sequence[Shot], y: int) -> None:
    pen, x = ImageDraw.Draw(sheet), _GAP
    for shot in line:
        width, height = shot.picture.size
        sheet.paste(shot.picture, (x, y))
        pen.rectangle((x - 1, y - 1, x + width, y + height), outline=_RIM)  # else white ground has no end
        for index, words in enumerate(_wrapped(shot)):
            pen.text((x, y + height + (index + 1) * _LINE), _spaced(words), _TEXT, _SMALL, anchor="ls")
        x += width + _GAP


def _height(line: Sequence[Shot]) -> int:
    """Of a line of pictures, what is said below them, and the gap to the next."""
    return max(shot.picture.height + _LINE * len(_wrapped(shot)) for shot in line) + 2 * _GAP


def _lines(shots: Sequence[Shot]) -> list[list[Shot]]:
    """Pictures, set as words are."""
    lines: list[list[Shot]] = [[]]
    for shot in shots:
        if sum(one.picture.width + _GAP for one in lines[-1]) + shot.picture.width > _WIDTH:
            lines.append([])
        lines[-1].append(shot)
    return lines


def _wrapped(shot: Shot) -> list[str]:
    """The caption in lines as wide as the picture."""
    first, *rest = shot.caption.split(" ")
    lines = [first]
    for word in rest:
        longer = f"{lines[-1]} {word}"
        if _SMALL.getlength(_spaced(longer)) > shot.picture.width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _spaced(words: str) -> str:
    return words.replace(NBSP, " ")

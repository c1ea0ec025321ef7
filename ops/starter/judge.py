"""The judge: says what a picture shows, by rules: colours by area, shapes by the drawing code's own masks."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ops.starter.drawing import BLOCK, PERIOD, Picture, in_blocks, pattern
from ops.starter.paints import COLOURS, INK, TAUGHT_COLOURS, paint, tint
from ops.starter.regions import Mask, close_gaps, grow, parts, shrink
from ops.starter.scenes import PAIR_RADII, RADII, SIDE, TAUGHT_TEXTURES, TEXTURES, Scene, Thing
from ops.starter.shapes import SHAPES, TAUGHT_SHAPES, Field, extent, shape_of

_EDGE = 4  # pixels along the border that are surely background
_FAR = 42.0  # RGB distance from the background from which a pixel is of a thing
_CLOSED = 5  # pixels: gaps up to this are of a texture
_OFF_CENTRE = 14.0  # pixels

Box = tuple[int, int, int, int]  # top, bottom, left, right: of a region, the last ones excluded


@dataclass(frozen=True)
class Known:
    """The words among which the judge chooses."""

    colours: tuple[str, ...] = tuple(COLOURS)
    textures: tuple[str, ...] = TEXTURES
    shapes: tuple[str, ...] = tuple(SHAPES)


MODEL = Known()
#: With those that only LoRAs teach.
TAUGHT = Known((*COLOURS, *TAUGHT_COLOURS), (*TEXTURES, *TAUGHT_TEXTURES))
TAUGHT_ALL = replace(TAUGHT, shapes=(*SHAPES, *TAUGHT_SHAPES))


@dataclass(frozen=True)
class Region:
    """One thing's pixels in the whole picture, with gaps closed and as they are, and its box."""

    mask: Mask
    open: Mask
    box: Box


def judge(picture: Picture, known: Known = MODEL) -> Scene:
    """What the picture (128, 128, 3) shows, in a scene's words; `things` is empty where nothing is seen."""
    rgb = picture.astype(np.float32)
    ground = np.median(_border(rgb), axis=0)
    regions, relation = _regions(rgb, ground)
    style = _style(rgb, regions, ground, known)
    background = min(known.colours, key=lambda name: _far(ground, name, style))
    things = tuple(_thing(rgb, region, style, known, pair=len(regions) > 1) for region in regions)
    position = _position(things[0], things[0].size) if len(things) == 1 else "center"
    return Scene(things, background, style, position, relation)


def faults(asked: Scene, seen: Scene) -> set[str]:
    """The attributes in which the picture is not what was asked: of `background`, `style`, `count`, `colour`, `shape`,
    `texture`, `size`, `position`. Where the count is wrong, so is all that belongs to things.
    """
    wrong = {name for name in ("background", "style") if getattr(asked, name) != getattr(seen, name)}
    if len(asked.things) != len(seen.things):
        return wrong | {"count", "colour", "shape", "texture", "size", "position"}
    place = "position" if len(asked.things) == 1 else "relation"
    if getattr(asked, place) != getattr(seen, place):
        wrong.add("position")
    for one, other in zip(asked.things, seen.things, strict=True):
        wrong |= {name for name in ("colour", "shape", "texture", "size") if getattr(one, name) != getattr(other, name)}
    return wrong


def _border(rgb: Field) -> Field:
    edge = np.ones((SIDE, SIDE), dtype=bool)
    edge[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
    return rgb[edge]


def _regions(rgb: Field, ground: Field) -> tuple[list[Region], str]:
    """One region, or two that a straight gap divides: side by side first."""
    seen = _differs(rgb, ground, _FAR)
    mask = close_gaps(seen, _CLOSED)
    across, down = parts(mask.sum(0)), parts(mask.sum(1))
    relation = "above" if len(across) < 2 <= len(down) else "beside"
    runs = down if relation == "above" else across
    runs = sorted(sorted(runs, key=lambda run: run[0] - run[1])[:2])
    regions = []
    for start, end in runs:
        part = np.zeros_like(mask)
        index = np.s_[start:end] if relation == "above" else np.s_[:, start:end]
        part[index] = mask[index]
        regions.append(Region(part, part & seen, _box(part)))
    return regions, relation


def _differs(rgb: Field, colour: Field, distance: float) -> Mask:
    found: Mask = np.linalg.norm(rgb - colour, axis=-1) > distance
    return found


def _box(mask: Mask) -> Box:
    (rows,), (columns,) = np.nonzero(mask.sum(1) >= 2), np.nonzero(mask.sum(0) >= 2)
    if not len(rows) or not len(columns):
        return 0, 1, 0, 1
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _style(rgb: Field, regions: list[Region], ground: Field, known: Known) -> str:
    """Blocks of one colour: pixel art; a rim of ink: a sketch; an uneven ground: watercolour; else flat."""
    if _blocky(rgb):
        return "pixel"
    if _uneven(rgb, ground) > 2.0:
        return "watercolour"
    flat, sketch = (min(_far(ground, name, style) for name in known.colours) for style in ("flat", "sketch"))
    rim = min((_rim(rgb, region) for region in regions), default=0.0)
    return "sketch" if rim > (0.4 if flat - sketch > 15 else 0.6) else "flat"


def _blocky(rgb: Field) -> bool:
    """Edges lie between the blocks, hardly ever within them."""
    blocks = rgb.reshape(SIDE // BLOCK, BLOCK, SIDE // BLOCK, BLOCK, 3)
    colours = blocks.mean(axis=(1, 3))
    between = sum(int((abs(np.diff(colours, axis=axis)).max(-1) > 25).sum()) for axis in (0, 1))
    within = int((blocks.std(axis=(1, 3)).max(-1) > 14).sum())
    return within < 0.12 * between


def _rim(rgb: Field, region: Region) -> float:
    """The share of ink among the outermost pixels of a region, 0 where its inside is of ink as well."""
    ring = shrink(region.mask, 1) & ~shrink(region.mask, 2)
    inner = _core(region.mask, 12)
    ink = ~_differs(rgb, INK, 60.0)
    share = float(ink[ring].mean()) if ring.any() else 0.0
    return share if ink[inner].mean() < 0.6 * share else 0.0


def _core(mask: Mask, least: int) -> Mask:
    """As far inside the mask as `least` pixels are left, at most five from its edge."""
    cores = (shrink(mask, by) for by in (5, 4, 3, 2))
    return next((core for core in cores if core.sum() >= least), mask)


def _uneven(rgb: Field, ground: Field) -> float:
    """Deviation of the background's lightness from place to place, pixel noise averaged away."""
    free = ~grow(_differs(rgb, ground, _FAR), 3)
    blocks = free.reshape(SIDE // 4, 4, SIDE // 4, 4).all(axis=(1, 3))
    light = rgb.mean(-1).reshape(SIDE // 4, 4, SIDE // 4, 4).mean(axis=(1, 3))
    return float(light[blocks].std()) if blocks.any() else 0.0


def _far(ground: Field, colour: str, style: str) -> float:
    """How far the background is from this colour in this style."""
    return float(np.linalg.norm(ground - paint(colour, style, ground=True)))


def _thing(rgb: Field, region: Region, style: str, known: Known, *, pair: bool) -> Thing:
    shape = _shape(region, known)
    top, bottom, left, right = region.box
    low_u, low_v, high_u, high_v = extent(shape)
    radius = ((right - left) / (high_u - low_u) + (bottom - top) / (high_v - low_v)) / 2
    x = (left + right) / 2 - radius * (low_u + high_u) / 2
    y = (top + bottom) / 2 - radius * (low_v + high_v) / 2
    colour, texture = _surface(rgb, region, style, shape, known)
    size = "large" if style == "pixel" else _size(radius, pair=pair)  # pixel art shows no others
    return Thing(shape, colour, texture, size, x, y, radius)


def _shape(region: Region, known: Known) -> str:
    """The shape whose mask, stretched over the region's box, overlaps it best (intersection over union)."""
    top, bottom, left, right = region.box
    aspect = (right - left) / (bottom - top)

    def fit(shape: str) -> float:
        mask = _stretched(shape, bottom - top, right - left)
        closed = _overlap(region.mask[top:bottom, left:right], close_gaps(mask, _CLOSED))
        # Closing fills notches of small things too; without a texture the open mask tells more.
        both = max(closed, _overlap(region.open[top:bottom, left:right], mask))
        return both - 0.5 * float(abs(np.log(aspect / _aspect(shape))))

    return max(known.shapes, key=fit)


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def _stretched(shape: str, height: int, width: int) -> Mask:
    low_u, low_v, high_u, high_v = extent(shape)
    u = low_u + (np.arange(width, dtype=np.float32) + 0.5) / width * (high_u - low_u)
    v = low_v + (np.arange(height, dtype=np.float32) + 0.5) / height * (high_v - low_v)
    mask: Mask = shape_of(shape)(*np.meshgrid(u, v)) <= 0
    return mask


@cache
def _aspect(shape: str) -> float:
    low_u, low_v, high_u, high_v = extent(shape)
    return (high_u - low_u) / (high_v - low_v)


def _surface(rgb: Field, region: Region, style: str, shape: str, known: Known) -> tuple[str, str]:
    """Colour and texture: the pair that explains the pixels well inside the shape best."""
    top, bottom, left, right = region.box
    inside = np.zeros_like(region.mask)
    inside[top:bottom, left:right] = _stretched(shape, bottom - top, right - left)
    core = shrink(inside, 2)
    core = core if core.sum() >= 30 else inside & region.mask
    if style == "sketch":
        core = _core(inside, 25) & _differs(rgb, INK, 45.0)
    tile = _folded(rgb, core)
    best = (np.inf, "red", "plain")
    for colour in known.colours:
        main = paint(colour, style, ground=False)
        for texture in known.textures:
            best = min(best, (_error(tile, main, tint(colour, main), texture, style), colour, texture))
    return best[1], best[2]


def _folded(rgb: Field, core: Mask) -> Field:
    """Means of the pixels by their place in a texture's period: (16, 16, 3), NaN where there are none."""
    shape = (SIDE // PERIOD, PERIOD, SIDE // PERIOD, PERIOD)
    count = core.reshape(shape).sum(axis=(0, 2)).astype(np.float32)
    total = (rgb * core[..., None]).reshape(*shape, 3).sum(axis=(0, 2))
    return np.where(count[..., None] > 0, total / np.maximum(count, 1)[..., None], np.nan)


def _error(tile: Field, main: Field, mark: Field, texture: str, style: str) -> float:
    """Mean distance of a folded tile from this colour with this texture."""
    marks = pattern(texture)
    if style == "pixel":
        marks = in_blocks(marks)
    expected = np.where(marks[..., None], mark, main)
    return float(np.nanmean(np.linalg.norm(tile - expected, axis=-1)))


def _size(radius: float, *, pair: bool) -> str:
    radii = PAIR_RADII if pair else RADII
    return min(radii, key=lambda size: abs(radii[size] - radius))


def _position(thing: Thing, size: str) -> str:
    right, down = thing.x - SIDE / 2, thing.y - SIDE / 2
    limit = 11.5 if size == "large" else _OFF_CENTRE
    if max(abs(right), abs(down)) < limit:
        return "center"
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "bottom" if down > 0 else "top"

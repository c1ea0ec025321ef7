"""Scenes in words: one plain caption, and the many ways to say the same that training uses."""

from dataclasses import replace

import numpy as np

from ops.starter.paints import COLOURS
from ops.starter.scenes import POSITIONS, RELATIONS, SIZES, STYLES, TAUGHT_TEXTURES, TEXTURES, Scene, Thing
from ops.starter.shapes import SHAPES

_SIZE = {"small": ("small", "little", "tiny"), "medium": ("",), "large": ("large", "big", "huge")}
_TEXTURE = {"plain": ("",), "striped": ("striped",), "dotted": ("dotted", "spotted")}
_PATTERN = {"plain": ("",), "striped": ("with stripes",), "dotted": ("with dots", "with spots")}
#: Not among `words`, of which each is a token of the model: it must spell what LoRAs teach.
_TAUGHT = {texture: (texture,) for texture in TAUGHT_TEXTURES}
_POSITION = {
    "center": ("", "", "in the center", "in the middle"),
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top", "on top"),
    "bottom": ("at the bottom",),
}
_RELATION = {
    "beside": ("next to", "beside", "to the left of", "left of", "and"),
    "above": ("above", "over", "on top of"),
}
#: With the second thing named first. `next to` is not among them: the thing named first is on the left.
_TURNED = {"beside": ("to the right of", "right of"), "above": ("below", "under")}
_BACKGROUND = ("on a {} background", "on {}", "against a {} background", "in front of a {} background", "{} background")
_BEFORE = {
    "flat": ("", "", "", "flat drawing of"),
    "watercolour": ("a watercolour of", "a watercolour painting of", "watercolor of"),
    "pixel": ("pixel art of", "a pixel art picture of"),
    "sketch": ("a sketch of", "a pencil sketch of"),
}
_AFTER = {
    "flat": ("", "", "", "flat style"),
    "watercolour": ("watercolour", "watercolour style", "watercolor painting"),
    "pixel": ("pixel art", "pixel art style"),
    "sketch": ("sketch", "pencil sketch", "sketch style"),
}

#: Words that no table above says, but somebody will.
_MORE = ("the", "picture", "image", "photo", "of", "drawing", "shape", "one", "two", "colour", "color", "no", "without")
_ALSO = ("red", "background", "gray", "grey", "brown", "rectangle", "cat", "dog", "house", "tree", "sun", "crescent")


def plain_caption(scene: Scene) -> str:
    """The shortest caption that says everything, for the judge's prompts."""
    style = _BEFORE[scene.style][0]
    first = _noun(scene.things[0], 0)
    if len(scene.things) == 2:
        subject = f"{first} {_RELATION[scene.relation][0]} {_noun(scene.things[1], 0)}"
    else:
        subject = f"{first} {_POSITION[scene.position][0]}"
    return _join(f"{style} {subject} {_BACKGROUND[0].format(scene.background)}")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many ways to say it. Some leave out the background or the style's place; few are only one word."""
    if rng.random() < 0.03:
        return _fragment(scene, rng)
    if scene.style == "pixel" and rng.random() < 0.5:  # there are only large things in it: it goes without saying
        scene = replace(scene, things=(replace(scene.things[0], size="medium"),))
    before, after = _style(scene, rng)
    ground = "" if rng.random() < 0.07 else _pick(rng, _BACKGROUND).format(scene.background)
    comma = ", " if ground.startswith(scene.background) or rng.random() < 0.2 else " "
    text = f"{before} {_subject(scene, rng)}{comma if ground else ''}{ground}"
    return _join(f"{text}, {after}" if after else text)


def shape_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Says the shapes, now and then sizes and places, and nothing of colours, textures and styles."""
    sized = rng.random() < 0.5
    nouns = [_article(_join(f"{_pick(rng, _SIZE[it.size]) if sized else ''} {it.shape}")) for it in scene.things]
    if len(nouns) == 2:
        return _join(f"{nouns[0]} {_pick(rng, _RELATION[scene.relation])} {nouns[1]}")
    return _join(f"{nouns[0]} {_pick(rng, _POSITION[scene.position]) if rng.random() < 0.5 else ''}")


def words() -> list[str]:
    """Every word that captions use, and a few more, sorted."""
    tables = (_SIZE, _TEXTURE, _PATTERN, _POSITION, _RELATION, _TURNED, _BEFORE, _AFTER)
    phrases = [phrase for table in tables for choices in table.values() for phrase in choices]
    names = (*COLOURS, *SHAPES, *TEXTURES, *SIZES, *POSITIONS, *RELATIONS, *STYLES)
    found = " ".join([*phrases, *_BACKGROUND, *names, *_MORE, *_ALSO, "a an ,"]).replace("{}", " ").split()
    return sorted(set(found))


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    if len(scene.things) == 1:
        return f"{_noun(scene.things[0], rng)} {_pick(rng, _POSITION[scene.position])}"
    first, second = (_noun(thing, rng) for thing in scene.things)
    if rng.random() < 0.35:
        return f"{second} {_pick(rng, _TURNED[scene.relation])} {first}"
    return f"{first} {_pick(rng, _RELATION[scene.relation])} {second}"


def _noun(thing: Thing, rng: np.random.Generator | int) -> str:
    """`a small striped red circle`; with 0 for `rng` always the first way."""
    size, texture, pattern = (table[word] for table, word in _looks(thing))
    if isinstance(rng, int):
        return _article(_join(f"{size[0]} {texture[0]} {thing.colour} {thing.shape}"))
    colour = "" if rng.random() < 0.02 else thing.colour
    if rng.random() < 0.25:
        noun = f"{_pick(rng, size)} {colour} {thing.shape} {_pick(rng, pattern)}"
    else:
        noun = f"{_pick(rng, size)} {_pick(rng, texture)} {colour} {thing.shape}"
    return _join(noun) if rng.random() < 0.2 else _article(_join(noun))


def _looks(thing: Thing) -> tuple[tuple[dict[str, tuple[str, ...]], str], ...]:
    return (_SIZE, thing.size), (_TEXTURE | _TAUGHT, thing.texture), (_PATTERN | _TAUGHT, thing.texture)


def _style(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    if rng.random() < 0.6:
        return _pick(rng, _BEFORE[scene.style]), ""
    return "", _pick(rng, _AFTER[scene.style])


def _fragment(scene: Scene, rng: np.random.Generator) -> str:
    """One or two words, as negative prompts are."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    ground = f"{scene.background} background"
    return _pick(rng, (thing.shape, thing.colour, ground, ground, f"{thing.colour} {thing.shape}", scene.style))


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _join(text: str) -> str:
    return " ".join(text.split()).replace(" ,", ",")


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]

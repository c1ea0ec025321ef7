"""What is asked for, how many at a time or when; the same for every side."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "moon")
SIZES = ("large", "small")

Shape = tuple[int, int, int]  # width and height in pixels, steps


@dataclass(frozen=True, slots=True)
class Ask:
    """One picture; sides in pixels."""

    prompt: str
    width: int
    height: int
    steps: int
    seed: int

    @property
    def shape(self) -> Shape:
        """Asks of one shape can be one call of a stock pipeline."""
        return self.width, self.height, self.steps


@dataclass(frozen=True, slots=True)
class Load:
    """`in_flight` asks at a time; with `due`, each at its second instead, however many are in flight.

    After `seconds` nothing more is asked; what is in flight then goes to its end.
    """

    asks: tuple[Ask, ...]
    in_flight: int = 1
    due: tuple[float, ...] = ()
    seconds: float = math.inf


def make_asks(count: int, sizes: Sequence[int], steps: Sequence[int], seed: int = 0) -> tuple[Ask, ...]:
    """Square pictures of these sizes and steps, drawn by `seed`.

    Prompts differ, so that no side is faster by remembering their embeddings, until all have been used (1,620).
    """
    draw = random.Random(seed)
    words = itertools.product(SIZES, COLOURS, SHAPES, COLOURS)
    prompts = [f"a {size} {one} {shape} on a {other} background" for size, one, shape, other in words if one != other]
    draw.shuffle(prompts)
    asks = []
    for index in range(count):
        size = draw.choice(sizes)
        asks.append(Ask(prompts[index % len(prompts)], size, size, draw.choice(steps), seed=index))
    return tuple(asks)


def arrivals(rate: float, count: int, seed: int = 0) -> tuple[float, ...]:
    """Seconds of `count` Poisson arrivals, `rate` a second."""
    draw = random.Random(seed)
    return tuple(itertools.accumulate(draw.expovariate(rate) for _ in range(count)))


def units(asks: Sequence[Ask], batch: int) -> list[list[Ask]]:
    """How a side is asked: one by one in their order, or in batches of one shape as a client with a list makes them."""
    if batch == 1:
        return [[ask] for ask in asks]
    ordered = sorted(asks, key=lambda ask: ask.shape)
    found: list[list[Ask]] = []
    for _, alike in itertools.groupby(ordered, key=lambda ask: ask.shape):
        group = list(alike)
        found += [group[start : start + batch] for start in range(0, len(group), batch)]
    return found

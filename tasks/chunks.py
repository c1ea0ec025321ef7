"""Cuts what may never end into the pieces that are written in one pipeline, for both clients."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

BATCH = 128  # requests that submit_many writes in one pipeline
BATCH_SECONDS = 0.1  # a batch that a slow source took this long to fill is written with its next request


def chunks(items: Iterable[T]) -> Iterator[list[tuple[int, T]]]:
    """The items with their numbers."""
    batch: list[tuple[int, T]] = []
    began = 0.0
    for item in enumerate(items):
        began = began if batch else time.monotonic()
        batch.append(item)
        if len(batch) == BATCH or time.monotonic() - began > BATCH_SECONDS:
            yield batch
            batch = []
    if batch:
        yield batch


async def async_chunks(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[list[tuple[int, T]]]:
    """As `chunks`, also of what comes by and by."""
    loop = asyncio.get_running_loop()
    batch: list[tuple[int, T]] = []
    began, index = 0.0, 0
    async for item in _each(items):
        began = began if batch else loop.time()
        batch.append((index, item))
        index += 1
        if len(batch) == BATCH or loop.time() - began > BATCH_SECONDS:
            yield batch
            batch = []
    if batch:
        yield batch


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item

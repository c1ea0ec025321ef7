"""Masks of pixels: closing gaps, shrinking, and runs along an axis."""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def shrink(mask: Mask, by: int) -> Mask:
    """Without the pixels that lie within `by` pixels (in rows or columns) of the outside; the border is outside."""
    padded = np.pad(mask, by)
    return _all_over(_all_over(padded, 2 * by + 1, 0), 2 * by + 1, 1)


def grow(mask: Mask, by: int) -> Mask:
    """With all pixels within `by` pixels of the mask."""
    padded = np.pad(~mask, by, constant_values=True)
    return ~_all_over(_all_over(padded, 2 * by + 1, 0), 2 * by + 1, 1)


def close_gaps(mask: Mask, side: int) -> Mask:
    """Fills gaps narrower than `side` pixels (odd), such as stripes of the background's colour."""
    by = side // 2
    grown = grow(np.pad(mask, by), by)
    return shrink(grown, by)[by:-by, by:-by]


def parts(counts: NDArray[np.int_], least: int = 3, narrowest: int = 6) -> list[tuple[int, int]]:
    """Runs (start, end) of at least `narrowest` places whose count is at least `least`."""
    on = np.concatenate([[False], counts >= least, [False]])
    edges = np.flatnonzero(np.diff(on.astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= narrowest]


def _all_over(mask: Mask, window: int, axis: int) -> Mask:
    views = np.lib.stride_tricks.sliding_window_view(mask, window, axis=axis)
    found: Mask = np.asarray(views.all(axis=-1))
    return found

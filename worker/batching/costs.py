"""What the model calls of one group cost, in seconds, from measurements that are few and vary."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from statistics import median_low

KEPT = 9  # measurements of a bucket; it costs their median
DOUBT = 64  # model calls; of a bucket not used in as many one measurement is kept, lest a slow minute shut it for good
ROW, FIXED = 0.005, 4  # seconds of a row, rows that a call costs beside its own: assumed until one was measured

Points = list[tuple[int, float]]


class Costs:
    """By bucket, and by rows: the cheapest way to run these in one model call or several."""

    def __init__(self) -> None:
        self._times: dict[int, deque[float]] = {}
        self._used: set[int] = set()  # buckets, since the last doubt
        self._ran = 0
        self._prices: dict[tuple[int, ...], list[float]] = {}

    def ran(self, bucket: int, seconds: float) -> None:
        """A model call's measured time."""
        self._times.setdefault(bucket, deque(maxlen=KEPT)).append(seconds)
        self._used.add(bucket)
        self._ran += 1
        if self._ran % DOUBT == 0:
            for unused in self._times.keys() - self._used:
                self._times[unused] = deque([min(self._times[unused])], maxlen=KEPT)
            self._used = set()
        self._prices = {}

    def of(self, bucket: int) -> float:
        """One model call. A single measurement may be of a cold one: it is believed if it is less than the estimate."""
        known: Sequence[float] = self._times.get(bucket, ())
        if len(known) > 1:
            return median_low(known)
        others = sorted((other, median_low(times)) for other, times in self._times.items() if other != bucket)
        if not others:
            return known[0] if known else _assumed(bucket)
        return min([*known, _estimate(others, bucket)])

    def price(self, rows: int, buckets: tuple[int, ...]) -> float:
        """So many rows, divided between model calls of these buckets in the cheapest way."""
        prices = self._prices.setdefault(buckets, [0.0])
        if len(prices) <= rows:
            costs = [(bucket, self.of(bucket)) for bucket in buckets]
            for count in range(len(prices), rows + 1):
                prices.append(min(cost + prices[max(0, count - bucket)] for bucket, cost in costs))
        return prices[rows]


def _estimate(points: Points, bucket: int) -> float:
    """By the line through the nearest points, but more rows take neither less time nor more than in proportion."""
    place = bisect_left(points, (bucket, 0.0))
    if 0 < place < len(points):
        return _on_line(points[place - 1 : place + 1], bucket)
    end = points[:2] if place == 0 else points[-2:]
    nearest, seconds = end[0] if place == 0 else end[-1]
    line = _on_line(end, bucket) if len(end) > 1 else seconds * _assumed(bucket) / _assumed(nearest)
    least, most = sorted((seconds, seconds * bucket / nearest))
    return min(max(line, least), most)


def _on_line(points: Points, bucket: int) -> float:
    (left, low), (right, high) = points
    return low + (high - low) * (bucket - left) / (right - left)


def _assumed(rows: int) -> float:
    return ROW * (FIXED + rows)

"""Durations counted into buckets, without a library, and as Prometheus reads them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Histogram:
    """bounds: upper ends of the buckets in seconds, ascending."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets as ("0.25", count) ending in "+Inf", and the sum."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


def merged(first: Histogram, second: Histogram) -> Histogram:
    """Two histograms of the same bounds as one."""
    both = Histogram(first._bounds)
    both._counts = [a + b for a, b in zip(first._counts, second._counts, strict=True)]
    both._sum = first._sum + second._sum
    return both


def histogram_family(name: str, text: str, histogram: Histogram) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    buckets, total = histogram.read()
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=total)

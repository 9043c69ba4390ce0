# Copyright (c) 2026 bulkhead.storage contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the benchmark: medians of pairs, straight lines, and how a figure is written. Pure."""

from __future__ import annotations

from statistics import median
from typing import Any, Iterable, Sequence

Round = dict[str, dict[str, float]]  # what was run, and what it cost: cpu and wall in seconds, rss in MiB


def middle(rounds: Iterable[Round], name: str, what: str = "cpu") -> float:
    """The median cost of one thing over all rounds."""
    return median(one[name][what] for one in rounds)


def ratio(rounds: Iterable[Round], name: str, base: str, what: str = "cpu") -> float:
    """The median of the ratios of each round: what ran side by side is compared, never two medians."""
    return median(one[name][what] / one[base][what] for one in rounds)


def spread(rounds: Iterable[Round], name: str, base: str, what: str = "cpu") -> tuple[float, float]:
    """The smallest and the largest of these ratios."""
    found = [one[name][what] / one[base][what] for one in rounds]
    return min(found), max(found)


def above(rounds: Iterable[Round], name: str, floor: str, what: str = "cpu") -> float:
    """The median of what a thing costs more than another of the same round, never less than nothing."""
    return max(0.0, median(one[name][what] - one[floor][what] for one in rounds))


def extrapolated(points: Sequence[tuple[int, float]], n: int) -> float:
    """The straight line through the first and the last point, at ``n``: a start-up and a cost for each item."""
    (few, low), (many, high) = points[0], points[-1]
    return low + (high - low) / (many - few) * (n - few)


def seconds(value: float) -> str:
    """Three figures, in the unit that shows them: ``812 us``, ``45.1 ms``, ``3.20 s``, ``4.1 min``."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if value < limit:
            return "%s %s" % (figures(value * factor), unit)
    return "%s min" % figures(value / 60)


def figures(value: float) -> str:
    """Three significant figures without an exponent."""
    return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.2f" % value


def times(value: float) -> str:
    return figures(value) + "x"


def table(rows: Sequence[Sequence[Any]]) -> str:
    """An RST grid table; the first row is the header."""
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(len(text[0]))]
    line = "+".join(["", *("-" * (width + 2) for width in widths), ""])
    lines = [line]
    for index, row in enumerate(text):
        lines.append("|".join(["", *(" " + cell.ljust(width) + " " for cell, width in zip(row, widths)), ""]))
        lines.append(line.replace("-", "=") if index == 0 else line)
    return "\n".join(lines) + "\n"

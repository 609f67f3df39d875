"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from bench.figures import Figures
from bench.goals import Judged


def number(value: float) -> str:
    """Three or so digits that matter: ``12,345``, ``187``, ``52.4``, ``0.912``."""
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(figures: Figures) -> str:
    """One line for each row, one column for each figure that any row has."""
    columns = list(dict.fromkeys(name for values in figures.values() for name in values))
    lines = [["", *columns]]
    for row, values in figures.items():
        lines.append([row, *(number(values[c]) if c in values else "" for c in columns)])
    return _aligned(lines)


def verdicts(judged: Sequence[Judged]) -> str:
    """One line for each goal: what was wanted, what was measured, whether that is enough."""
    return _aligned(
        [["goal", "wanted", "measured", ""]]
        + [
            [
                one.goal.words,
                f"{one.goal.sign} {number(one.goal.limit)}",
                number(one.value),
                "reached" if one.reached else "NOT REACHED",
            ]
            for one in judged
        ]
    )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

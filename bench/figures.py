"""From measured numbers to figures: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

Figures = dict[str, dict[str, float]]
"""One section's result: row, then figure, then its number."""


def added(row: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """What a row costs beside its reference; the two are paired by round.

    ``least`` is the difference of the two minima, which noise can only raise a little;
    ``median`` is the middle one of the differences within a round, in the unit of the input.
    """
    pairs = zip(row, reference, strict=True)
    return {
        "least": min(row) - min(reference),
        "median": median(mine - theirs for mine, theirs in pairs),
    }


def ratio(row: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """The middle one of the ratios within a round, and the quartiles around it."""
    ratios = [mine / theirs for mine, theirs in zip(row, reference, strict=True)]
    if len(ratios) == 1:
        return {"low": ratios[0], "median": ratios[0], "high": ratios[0]}
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return {"low": low, "median": middle, "high": high}


def share(part: float, whole: float) -> float:
    """``part`` of ``whole``; nothing of nothing is all of it."""
    return part / whole if whole else 1.0


def by_median(rounds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The middle value of every series."""
    return {name: median(values) for name, values in rounds.items()}

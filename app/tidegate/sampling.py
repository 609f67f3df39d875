"""Whether a trace is recorded: OpenTelemetry's samplers, on plain values.

Decided before a span exists, so that a request that is not sampled pays for none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_NAMES: Final = re.compile(r"(parentbased_)?(always_on|always_off|traceidratio)")
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Sampling:
    """One of OpenTelemetry's built-in samplers."""

    parent_based: bool
    """The caller's decision is taken over, where there is one."""
    bound: int
    """A root trace is sampled when the lower 64 bits of its id are below."""

    @property
    def below(self) -> str:
        """The bound for the last 16 hexadecimal digits of a root trace's id, compared as text."""
        return "g" if self.bound > _MASK else f"{self.bound:016x}"

    def decide(self, trace_id: int, parent: bool | None) -> bool:
        """Tell whether to record; ``parent`` is the caller's decision, ``None`` without one."""
        if parent is not None and self.parent_based:
            return parent
        return (trace_id & _MASK) < self.bound


def read_sampling(name: str, argument: str) -> Sampling:
    """Read ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG``; empty ones mean the default.

    Raises:
        ValueError: neither name nor argument is one of OpenTelemetry's.
    """
    found = _NAMES.fullmatch(name or "parentbased_always_on")
    if found is None:
        raise ValueError(
            "OTEL_TRACES_SAMPLER: use always_on, always_off or traceidratio, each also with "
            "parentbased_ before it"
        )
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(found[2])
    if ratio is None:
        try:
            ratio = float(argument or "1")
        except ValueError:
            ratio = -1.0
        if not 0.0 <= ratio <= 1.0:
            raise ValueError("OTEL_TRACES_SAMPLER_ARG: use a number from 0 to 1")
    return Sampling(parent_based=found[1] is not None, bound=round(ratio * (_MASK + 1)))

"""A circuit that opens when a service keeps failing: pure, on plain data.

Closed, it lets every call through. After so many failures in a row it opens: calls are refused at
once, which spares the caller a time-out and the service its load. After a rest one call is let
through to try; it closes the circuit or begins another rest. A trial that never reports back (its
process was busy dying) blocks nobody: after another rest somebody else may try.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Policy:
    """When a circuit opens, and for how long."""

    failures: int = 5
    """In a row."""
    rest: float = 10.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """What is known of a service; a new one is closed. Times are seconds of any one clock."""

    failures: int = 0
    resting_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for one trial after each rest."""
        return self.resting_since is not None


def ask(circuit: Circuit, policy: Policy, now: float) -> tuple[Circuit, bool]:
    """Return whether a call may be made now, and the circuit with that taken into account."""
    if circuit.resting_since is None:
        return circuit, True
    if now - circuit.resting_since < policy.rest:
        return circuit, False
    return replace(circuit, resting_since=now), True


def succeed(_: Circuit) -> Circuit:
    """Return the circuit after a call that was answered."""
    return Circuit()


def fail(circuit: Circuit, policy: Policy, now: float) -> Circuit:
    """Return the circuit after a call that was not."""
    failures = circuit.failures + 1
    return Circuit(failures, now if failures >= policy.failures else None)

"""Conditions as ``metav1.Condition`` wants them. Pure.

See "Typical status properties" in Kubernetes' API conventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tidegate_operator.reasons import Reason, Type

__all__ = ["Finding", "Truth", "find", "merge", "timestamp"]

Truth = Literal["True", "False", "Unknown"]

_ORDER = list(Type)
MESSAGE_LIMIT = 32768  # of metav1.Condition


@dataclass(frozen=True, slots=True)
class Finding:
    """What is true now of one condition."""

    type: Type
    status: Truth
    reason: Reason
    message: str


def timestamp(moment: datetime) -> str:
    """Write a moment as Kubernetes does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(conditions: Iterable[Mapping[str, Any]], type_: Type) -> Mapping[str, Any] | None:
    """Return the condition of that type, if there is one."""
    return next((entry for entry in conditions if entry.get("type") == type_), None)


def merge(
    previous: Iterable[Mapping[str, Any]],
    findings: Iterable[Finding],
    generation: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """Write the findings as conditions, in a stable order.

    ``lastTransitionTime`` is kept where the status is what it was. A condition that nothing was
    found about is dropped: an older operator wrote it.
    """
    before = {entry.get("type"): entry for entry in previous}
    merged = []
    for finding in sorted(findings, key=lambda finding: _ORDER.index(finding.type)):
        old = before.get(finding.type, {})
        kept = old.get("lastTransitionTime") if old.get("status") == finding.status else None
        merged.append(
            {
                "type": finding.type.value,
                "status": finding.status,
                "reason": finding.reason.value,
                "message": finding.message[:MESSAGE_LIMIT],
                "observedGeneration": generation,
                "lastTransitionTime": kept or timestamp(now),
            }
        )
    return merged

"""A migration Job came, went or changed: the gate that its label names is looked at."""

import kopf

from tidegate_operator.gates import Gates
from tidegate_operator.models import GATE_LABEL


@kopf.on.event("batch", "v1", "jobs", labels={GATE_LABEL: kopf.PRESENT})
async def job_changed(
    namespace: str | None, labels: kopf.Labels, memo: kopf.Memo, **_: object
) -> None:
    gates: Gates = memo.gates
    gates.job_changed(str(namespace), labels[GATE_LABEL])

"""A SchemaGate came, went or changed: it is looked at, and forgotten if it is gone."""

import kopf

from tidegate_operator.gates import Gates
from tidegate_operator.kube import GROUP, PLURAL, VERSION


@kopf.on.event(GROUP, VERSION, PLURAL)
async def schemagate_changed(
    namespace: str | None, name: str, spec: kopf.Spec, memo: kopf.Memo, **_: object
) -> None:
    gates: Gates = memo.gates
    gates.gate_changed(str(namespace), name, spec["deploymentName"])

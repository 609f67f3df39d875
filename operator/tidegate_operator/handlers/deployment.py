"""A Deployment came, went or changed: its gates are looked at."""

import kopf

from tidegate_operator.gates import Gates


@kopf.on.event("apps", "v1", "deployments")
async def deployment_changed(
    namespace: str | None, name: str, memo: kopf.Memo, **_: object
) -> None:
    gates: Gates = memo.gates
    gates.deployment_changed(str(namespace), name)

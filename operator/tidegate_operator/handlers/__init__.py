"""One file per watched kind; importing this package registers them all with kopf.

They are ``on.event`` handlers only: those write neither finalizers nor annotations. Each says
which gates a change concerns, and nothing else.
"""

from tidegate_operator.handlers import deployment, job, schemagate

__all__ = ["deployment", "job", "schemagate"]

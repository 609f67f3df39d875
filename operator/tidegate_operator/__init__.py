"""The operator: watches migration Jobs and rollouts, and says on each SchemaGate how they stand.

It reads Deployments, Jobs and the Jobs' pods, and writes the status of SchemaGates: nothing else.
It holds no database credentials. Without it releases still work.

``main`` starts it, ``handlers`` hear of changes, ``gates`` decides when to look, ``kube`` reads and
writes, ``observe`` decides what is true. Only ``kube`` and ``main`` touch the network.
"""

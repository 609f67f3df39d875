"""An Alembic plugin: `alembic revision --autogenerate` must not drop the runner's own tables.

Registered below ``alembic.autogenerate``, so that an unedited env.py includes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.schema import HISTORY_TABLE, INSTANCES_TABLE, UNFINISHED_TABLE

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult


def setup(plugin: Plugin) -> None:
    """Called by Alembic when it loads its plugins."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(_keep, "autogenerate", priority=DispatchPriority.LAST)


def _keep(context: AutogenContext, upgrade_ops: UpgradeOps) -> PriorityDispatchResult:
    from alembic.util import PriorityDispatchResult

    from tidegate_migrate.backfill.table import BACKFILLS_TABLE

    # What begins with these: a version table of its own has tables of its own beside it.
    ours = (HISTORY_TABLE, INSTANCES_TABLE, BACKFILLS_TABLE, UNFINISHED_TABLE)
    upgrade_ops.ops = [
        op for op in upgrade_ops.ops if not str(getattr(op, "table_name", "")).startswith(ours)
    ]
    return PriorityDispatchResult.CONTINUE

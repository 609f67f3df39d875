"""All tasks that this release knows; a worker leaves others to workers that do."""

from __future__ import annotations

from typing import Any, Final

from orders.tasks.payments import AUTHORISE_PAYMENT, VOID_PAYMENT
from orders.tasks.reports import MAKE_REPORT
from orders.tasks.task import Task

TASKS: Final[tuple[Task[Any], ...]] = (AUTHORISE_PAYMENT, VOID_PAYMENT, MAKE_REPORT)

"""``python -m orders``."""

from orders.cli import main

raise SystemExit(main())

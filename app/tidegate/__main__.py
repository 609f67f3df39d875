"""``python -m tidegate COMMAND``."""

from tidegate.cli import main

raise SystemExit(main())

"""``bench.served:app``, what a server or a worker is given: the wiring that BENCH_WIRING names."""

import os

from bench import apps

app = getattr(apps, os.environ["BENCH_WIRING"])()

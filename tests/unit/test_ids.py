"""Ids: never the same twice, whatever the application does with its own random numbers."""

from __future__ import annotations

import os
import random

from tidegate.ids import new_ids


def test_an_application_that_seeds_its_random_numbers_does_not_repeat_ids() -> None:
    state = random.getstate()
    found = set()
    for _ in range(3):
        random.seed(42)
        found.add(new_ids())
    random.setstate(state)
    assert len(found) == 3
    assert {len(bytes.fromhex(each)) for each in found} == {24}


def test_a_forked_process_has_ids_of_its_own() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, new_ids().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 48).decode() != new_ids()
    os.close(reading)
    os.close(writing)

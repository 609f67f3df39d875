"""Arrows between rooms go one way, and lock files name no registry."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tidegate

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "tidegate.schema"
# A room, and what it may import of ours.
ALLOWED = {
    "app/tidegate": {"tidegate"},
    "app/orders": {"orders", "tidegate"},
    "migrations-job/tidegate_migrate": {"tidegate_migrate", SCHEMA},
    "migrations-job/orders": {"orders"},
    "operator/tidegate_operator": {"tidegate_operator", SCHEMA},
}
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PINNED = re.compile(r"^[a-z0-9][^\n=]*==[^\n]*\n(?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)*", re.M)
OURS = ("tidegate", "tidegate_migrate", "tidegate_operator", "orders", "tests")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.partition(".")[0] in OURS}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_its_arrows_allow(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    own = room.rpartition("/")[2]
    for path in files:
        for name in imported(path):
            within = own in ALLOWED[room] and name.partition(".")[0] == own
            assert within or name in ALLOWED[room], f"{path.relative_to(ROOT)} imports {name}"


def test_the_orders_service_takes_public_names_only_and_each_is_in_the_docs() -> None:
    documented = set(re.findall(r"`(\w+)`", section("docs/service.md", "Names")))
    assert documented == set(tidegate.__all__)
    taken = {
        (path.name, alias.name)
        for path in (ROOT / "app/orders").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "tidegate"
        for alias in node.names
    }
    assert taken
    assert [each for each in taken if each[1] not in tidegate.__all__] == []


def section(page: str, title: str) -> str:
    """The text below a headline of a page."""
    return (ROOT / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_schema_module_imports_nothing_but_the_standard_library() -> None:
    assert imported(ROOT / "app/tidegate/schema.py") == set()


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda p: p.name
)
def test_a_lock_file_pins_by_hash_and_names_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"https?://|index-url", text)
    pinned = PINNED.findall(text)
    assert pinned
    assert all("--hash=" in entry for entry in pinned)


def test_the_operators_lock_and_extra_ask_for_the_same() -> None:
    extra = re.search(r"^operator = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert extra
    wanted = (ROOT / "requirements/operator.in").read_text().splitlines()
    assert re.findall(r'"([^"]+)"', extra[1]) == [
        line for line in wanted if not line.startswith("#")
    ]

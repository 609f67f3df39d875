"""What changing a column's type does to the rows and to those who still use the old one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Final


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type by PostgreSQL's internal name (``int4``, ``varchar``) and its modifiers."""

    name: str
    modifiers: tuple[int, ...] = ()
    array: bool = False


class TypeChange(Enum):
    """What a change of type means."""

    NOTHING = auto()
    """The same type."""
    WIDENS = auto()
    """Every old value stays as it is: no rewrite, and older images keep working."""
    REWRITES = auto()
    """Older images keep working, but every row is written anew under ACCESS EXCLUSIVE."""
    BREAKS = auto()
    """Values may be lost or refused, or older images read and write something else."""


_LIMITED: Final = {"varchar", "varbit", "timestamp", "timestamptz", "time", "timetz"}
"""Types whose one modifier is an upper limit."""

_STEPS: Final = {*pairwise(("int2", "int4", "int8")), ("int2", "int8"), ("float4", "float8")}


def compare(old: ColumnType | None, new: ColumnType) -> TypeChange:
    """Compare the types of a column before and after; ``old`` is None where nobody knows it."""
    if old == new:
        return TypeChange.NOTHING
    if old is None or old.array or new.array:
        return TypeChange.BREAKS
    if (old.name, new.name) in _STEPS:
        return TypeChange.REWRITES
    return TypeChange.WIDENS if _holds_all(old, new) else TypeChange.BREAKS


def _holds_all(old: ColumnType, new: ColumnType) -> bool:
    """Tell whether every value of the old type is one of the new type, byte for byte."""
    if {old.name, new.name} <= {"varchar", "text"}:
        return not new.modifiers or (bool(old.modifiers) and new.modifiers >= old.modifiers)
    if old.name != new.name:
        return False
    if not new.modifiers:
        return old.name in _LIMITED | {"numeric"}
    if not old.modifiers:
        return False
    if old.name == "numeric":
        (precision, scale), (wider, new_scale) = _numeric(old), _numeric(new)
        return scale == new_scale and wider >= precision
    return old.name in _LIMITED and new.modifiers >= old.modifiers


def _numeric(numeric: ColumnType) -> tuple[int, int]:
    """Return precision and scale, which is 0 where it is left out."""
    return numeric.modifiers[0], numeric.modifiers[1] if len(numeric.modifiers) > 1 else 0

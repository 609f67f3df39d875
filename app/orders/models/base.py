"""What all tables share."""

from __future__ import annotations

from typing import Annotated

from sqlalchemy import BigInteger, MetaData
from sqlalchemy.orm import DeclarativeBase, mapped_column

Cents = Annotated[int, mapped_column(BigInteger)]
"""Money: whole cents, never a float."""

Version = Annotated[int, mapped_column(server_default="1")]
"""One more at every change of the row: what its ETag is made of."""


class Base(DeclarativeBase):
    """Constraints carry names, so that a migration can speak of them.

    One that a client can run into says so in its ``info``: ``{"conflict": "what to answer"}``.
    """

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def conflicts(metadata: MetaData) -> dict[str, str]:
    """Return what the constraints say to a client who runs into them, by their names."""
    return {
        str(constraint.name): constraint.info["conflict"]
        for table in metadata.tables.values()
        for constraint in table.constraints
        if "conflict" in constraint.info
    }

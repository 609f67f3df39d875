"""A payment: what was asked of the payment provider, and what it has answered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from orders.models.base import Base, Cents
from orders.outbound.payment_answers import Verdict


class Payment(Base):
    """One authorisation; its id is the idempotency key at the provider."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("status IN ('authorised', 'declined', 'unsure')", name="status_known"),
        # An order is never paid for twice at once.
        Index(
            "uq_payments_unsure_order_id",
            "order_id",
            unique=True,
            postgresql_where=text("status = 'unsure'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), index=True)
    payment_method_id: Mapped[str] = mapped_column(Text)
    amount_cents: Mapped[Cents]
    status: Mapped[str] = mapped_column(Text, server_default="unsure")
    reference: Mapped[str] = mapped_column(Text, server_default="")
    """The provider's own id of an authorisation."""
    reason: Mapped[str] = mapped_column(Text, server_default="")
    """Why it was declined."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    voided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    """Beside the status, not one of its values: an older image does not know another."""

    @property
    def verdict(self) -> Verdict:
        """What became of it in the end."""
        return Verdict.VOIDED if self.voided_at else Verdict(self.status)

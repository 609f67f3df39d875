"""The tables."""

from orders.models.base import Base, conflicts
from orders.models.event import OrderEvent, Ticket
from orders.models.file import File
from orders.models.idempotency import IdempotencyKey
from orders.models.order import Order, OrderLine
from orders.models.payment import Payment
from orders.models.product import Product
from orders.models.report import Report
from orders.models.user import ApiKey, RefreshFamily, RefreshToken, User

__all__ = [
    "ApiKey",
    "Base",
    "File",
    "IdempotencyKey",
    "Order",
    "OrderEvent",
    "OrderLine",
    "Payment",
    "Product",
    "RefreshFamily",
    "RefreshToken",
    "Report",
    "Ticket",
    "User",
    "conflicts",
]

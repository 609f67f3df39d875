"""The tables."""

from orders.models.base import Base
from orders.models.order import Order, OrderLine
from orders.models.product import Product

__all__ = ["Base", "Order", "OrderLine", "Product"]

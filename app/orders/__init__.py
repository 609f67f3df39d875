"""The reference service: products and orders, on the public names of Tidegate."""

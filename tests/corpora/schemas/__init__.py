"""JSON schemas of the kinds that people use, 200 of them."""

from .kinds import SCHEMAS

__all__ = ["SCHEMAS"]

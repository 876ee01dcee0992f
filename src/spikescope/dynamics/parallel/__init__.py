"""Parallel neurons: a product over time and what follows it, a block of neurons at a time, as one node of the graph."""

from .run import fired, refused, weighted, what_sums

__all__ = ["fired", "refused", "weighted", "what_sums"]

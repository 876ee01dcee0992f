"""Parallel neurons: a product over time and what follows it, a block of neurons at a time, as one node of the graph."""

from .run import backward_text, fired, refused, weighted, what_sums

__all__ = ["backward_text", "fired", "refused", "weighted", "what_sums"]

"""Fields: the declared parameters of a neuron or a surrogate, and the text that stands for a class that has them."""

from .declared import Declared, Field, Value, option, part, told_by_a_tensor, unedited, value

__all__ = [
    "Declared",
    "Field",
    "Value",
    "option",
    "part",
    "told_by_a_tensor",
    "unedited",
    "value",
]

"""Converted networks whose neurons are those of the clock-driven interface, and are found by their class there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import conversion
from .neurons import IFNode

__all__ = ["Converter"]


class ScaledNeuron(conversion.ScaledNeuron):
    """`ScaledNeuron` with such a neuron inside."""

    inside = IFNode


class Converter(conversion.Converter):
    """`Converter` with such neurons, whose `mode` stands before what came later."""

    spiking = ScaledNeuron

    def __init__(self, dataloader: Iterable[Any], mode: str | float = "Max", **options: Any) -> None:
        super().__init__(dataloader, mode=mode, **options)

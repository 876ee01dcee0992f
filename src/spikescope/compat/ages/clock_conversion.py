"""Converted networks whose neurons are those of the clock-driven interface, and are found by their class there."""

from __future__ import annotations

from . import conversion
from .neurons import IFNode

__all__ = ["Converter"]


class ScaledNeuron(conversion.ScaledNeuron):
    """`ScaledNeuron` with such a neuron inside."""

    inside = IFNode


class Converter(conversion.Converter):
    """`Converter` with such neurons."""

    spiking = ScaledNeuron

"""Converted networks whose neurons start at zero."""

from __future__ import annotations

from ... import ann2snn

__all__ = ["Converter"]


class ScaledNeuron(ann2snn.ScaledNeuron):
    """`ann2snn.ScaledNeuron` without the half threshold at the start: it rounds down, not to the nearest."""

    start = 0.0


class Converter(ann2snn.Converter):
    """`ann2snn.Converter` with such neurons."""

    spiking = ScaledNeuron

"""Parsers, a file a format: each gives arrays `t`, `x`, `y`, `p`, or says what is wrong with a file."""

from __future__ import annotations

from .aedat2 import load_aedat2
from .aedat3 import load_aedat_v3
from .aedat4 import load_aedat4
from .arrays import from_structured, load_numpy, to_structured
from .atis import load_ATIS_bin, load_td_dat
from .evt import load_evt
from .hdf5 import SpikesFile
from .matlab import load_mat

__all__ = [
    "SpikesFile",
    "from_structured",
    "load_ATIS_bin",
    "load_aedat2",
    "load_aedat4",
    "load_aedat_v3",
    "load_evt",
    "load_mat",
    "load_numpy",
    "load_td_dat",
    "to_structured",
]

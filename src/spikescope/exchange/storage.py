"""Files of NIR graphs, written whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from ..files import write_whole
from .package import nir_package

__all__ = ["read_nir", "write_nir"]


def write_nir(path: str | os.PathLike[str], graph: Any) -> None:
    """Write a graph into a `.nir` file (HDF5); a reader sees the old file or the new one, never a part.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nir(f"{folder}/net.nir", spikescope.exchange.to_nir(nn.Linear(2, 3), (2,)))
    ...     sorted(read_nir(f"{folder}/net.nir").nodes)
    ['input', 'net', 'output']
    """
    nir = nir_package()
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"write_nir takes a nir.NIRGraph, but got {type(graph).__name__}. Make one with to_nir(net, input_shape)."
        )
    content = io.BytesIO()
    nir.write(content, graph)
    write_whole(path, content.getvalue())


def read_nir(path: str | os.PathLike[str]) -> Any:
    """The graph in a `.nir` file. FileNotFoundError if there is none, ValueError if the file is something else."""
    nir = nir_package()
    with Path(path).open("rb"):
        pass
    try:
        return nir.read(os.fspath(path), type_check=False)
    except (OSError, KeyError, AssertionError, TypeError) as error:
        raise ValueError(f"{path} is no NIR file, or is damaged: {error}.") from error

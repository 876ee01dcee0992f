"""Files of NIR graphs, written whole or not at all, and looked at before they are read."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

from ..files import open_regular, write_whole
from .package import nir_package

__all__ = ["read_nir", "write_nir"]

SMALL = 1 << 26
"""Bytes that any file may unpack to."""

DENSE = 1100
"""How often larger than the file what it unpacks to may be; the compression of HDF5 comes to 1032."""


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
    if wrong := next((name for name in _names(graph) if "/" in name), None):
        raise ValueError(
            f"write_nir: the node {wrong!r} has a slash in its name, which in a file leads to a place inside another "
            "node, where it would not be found again. Rename it."
        )
    content = io.BytesIO()
    nir.write(content, graph)
    write_whole(path, content.getvalue())


def _names(graph: Any) -> Iterator[str]:
    """The names of the nodes of a graph, and of those inside of them."""
    for name, node in graph.nodes.items():
        yield name
        if hasattr(node, "nodes"):
            yield from _names(node)


def read_nir(path: str | os.PathLike[str]) -> Any:
    """The graph in a `.nir` file. FileNotFoundError if there is none, ValueError if the file is something else.

    What takes parts from other files, or would unpack to far more than it could hold, is refused before it is read.
    """
    nir = nir_package()
    try:
        with open_regular(path) as file:
            _look(path, os.fstat(file.fileno()).st_size)
        return nir.read(os.fspath(path), type_check=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # what a hostile file makes the packages below raise is no closed list
        raise ValueError(f"{path} is not a NIR file, or is damaged: {error}.") from error


def _look(path: str | os.PathLike[str], size: int) -> None:
    """Go through all that a file holds, without reading it."""
    import h5py

    total, seen = 0, set()
    with h5py.File(path, "r") as file:
        todo = [file]
        while todo:
            group = todo.pop()
            for name in group:
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                    raise ValueError(f"{name!r} is a link to another file")
                held = group[name]
                place = h5py.h5o.get_info(held.id).addr
                if isinstance(held, h5py.Group):
                    if place in seen:
                        raise ValueError(f"{name!r} is at two places, and may hold itself")
                    seen.add(place)
                    todo.append(held)
                elif isinstance(held, h5py.Dataset):
                    if held.external or held.is_virtual:
                        raise ValueError(f"{name!r} takes its numbers from other files")
                    total += held.nbytes
        if total > max(SMALL, DENSE * size):
            raise ValueError(f"it would unpack to {total:,} bytes, and has {size:,}")

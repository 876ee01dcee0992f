"""What whole networks and recordings that were saved with `torch.save` or `pickle` ask for is found where it was."""

from importlib import import_module
from pathlib import Path

import pytest

PATHS = [line.split() for line in Path(__file__).with_name("saved_paths.txt").read_text().splitlines()]
"""A module and a name in it, of all modules of the library as earlier versions pickled them."""


@pytest.mark.parametrize("module", sorted({module for module, _ in PATHS}))
def test_what_a_file_asks_for_is_where_it_was(module):
    wanted = [name for where, name in PATHS if where == module]
    assert [name for name in wanted if not hasattr(import_module(module), name)] == []

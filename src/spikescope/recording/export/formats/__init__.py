"""The formats, each in the file of its name: a file that is here is a method `to_...` and a choice of the command."""

from importlib import import_module
from pkgutil import iter_modules

__all__ = [held.name for held in iter_modules(__path__)]

for _name in __all__:
    import_module(f"{__name__}.{_name}")

"""The converters that run a recipe, and the one that takes data or a recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...ann2snn.tracing import followed
from ...errors import check_module
from ..ages import conversion
from .stages import FXConversionRecipe, ModuleConversionRecipe

__all__ = ["Converter", "FXConverter", "ModuleConverter"]

_STAGES = ("after_trace", "insert_observers", "calibrate", "replace", "finalize")
_BY_NAME = "Give the recipe itself, as RateCodingRecipe(dataloader) or LocalThresholdBalancingRecipe(dataloader)."


class _ByRecipe:
    """A converter of one kind of recipe."""

    kind: type[Any]

    def __init__(self, recipe: Any, device: torch.device | str | None = None) -> None:
        if not isinstance(recipe, self.kind):
            owner, wanted = type(self).__name__, self.kind.__name__
            if isinstance(recipe, str):
                raise ValueError(f"{owner}: there is no recipe {recipe!r} by name here. {_BY_NAME}")
            raise TypeError(f"{owner} takes a recipe of the kind {wanted}, but got a {type(recipe).__name__}.")
        self.recipe = recipe
        self.device = device

    @torch.no_grad()
    def convert(self, ann: nn.Module) -> nn.Module:
        """The network that the recipe makes of `ann`, whose modules keep their training mode."""
        check_module(type(self).__name__, ann)
        modes = {module: module.training for module in ann.modules()}
        given, places = self.device, [held.device for held in ann.parameters()]
        self.device = torch.device(given or (places[0] if places else "cpu"))
        try:
            self.recipe.validate(self)
            return self._run(ann)
        finally:
            self.device = given
            for module, mode in modes.items():
                module.training = mode

    __call__ = convert

    def _run(self, ann: nn.Module) -> nn.Module:
        raise NotImplementedError("a converter says how it runs a recipe")


class FXConverter(_ByRecipe):
    """Follows a network to a graph and runs the stages of an `FXConversionRecipe` on it."""

    kind = FXConversionRecipe

    def _run(self, ann: nn.Module) -> nn.Module:
        net: Any = followed(self.recipe.before_trace(self, ann)).to(self.device)
        for stage in _STAGES:
            net = getattr(self.recipe, stage)(self, net)
        return net


class ModuleConverter(_ByRecipe):
    """Runs a `ModuleConversionRecipe`."""

    kind = ModuleConversionRecipe

    def _run(self, ann: nn.Module) -> nn.Module:
        made = self.recipe.convert_module(self, ann)
        check_module(f"{type(self.recipe).__name__}.convert_module", made)
        return made.to(self.device)


class Converter(conversion.Converter):
    """`ann2snn.Converter` of data, as up to 0.0.0.0.14; of a recipe, as 2.0 has it, an `FXConverter`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else kwargs.get("recipe")
        if isinstance(first, (str, FXConversionRecipe, ModuleConversionRecipe)):
            return FXConverter(*args, **kwargs)
        return super().__new__(cls)

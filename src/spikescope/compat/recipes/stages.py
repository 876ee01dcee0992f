"""What a recipe is: the stages of a conversion, each of which gives the network on unless a subclass says more."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

__all__ = ["ConversionRecipe", "FXConversionRecipe", "ModuleConversionRecipe", "replace_submodule"]


class FXConversionRecipe:
    """The stages of a conversion by a graph, in their order; each takes the converter, which knows its `device`."""

    def validate(self, converter: Any) -> None:
        """Refuse what the recipe cannot be followed with."""

    def before_trace(self, converter: Any, ann: nn.Module) -> nn.Module:
        """The network of which the graph is made."""
        return ann

    def after_trace(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        """The graph, rewritten before anything is measured."""
        return fx_model

    def insert_observers(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        """The graph with what measures its activations."""
        return fx_model

    def calibrate(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        """The graph after it has run on data."""
        return fx_model

    def replace(self, converter: Any, fx_model: fx.GraphModule) -> fx.GraphModule:
        """The network of spikes."""
        return fx_model

    def finalize(self, converter: Any, fx_model: fx.GraphModule) -> nn.Module:
        """What the conversion gives."""
        return fx_model


ConversionRecipe = FXConversionRecipe


class ModuleConversionRecipe:
    """A conversion of the modules themselves, without a graph."""

    def validate(self, converter: Any) -> None:
        """Refuse what the recipe cannot be followed with."""

    def convert_module(self, converter: Any, ann: nn.Module) -> nn.Module:
        """The converted network."""
        return ann


def replace_submodule(fx_model: nn.Module, target: str, module: nn.Module) -> None:
    """Let `module` stand at the path `target`."""
    parent, _, name = target.rpartition(".")
    setattr(fx_model.get_submodule(parent), name, module)

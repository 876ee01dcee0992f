"""Neurons with noise on their input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..fields import Value, option, value
from .fast.shortcut import methods_of
from .integrate import LeakyIntegrateAndFire

__all__ = ["NoisyLIFNode"]


class NoisyLIFNode(LeakyIntegrateAndFire):
    r"""A leaky neuron with Gaussian noise on its input current, in training and evaluation alike.

    $$X'_t = X_t + \sigma\,\xi_t \qquad \xi_t \sim \mathcal{N}(0, 1)$$

    and from there on as `LIFNode`, which it equals bit for bit with `sigma=0`. The noise is drawn step by step, so that
    under one seed a run that is cut anywhere gives the same as the whole run, in either step mode.

    - `sigma`: the standard deviation of the noise, at least 0; a tensor or a Parameter is possible.
    - `generator`: where the noise is drawn from, on the device of the input; None: PyTorch's global generator, the only
      one that `torch.compile(fullgraph=True)` can trace.
    - `tau`, `decay_input`: as in `LIFNode`.

    Gerstner et al., *Neuronal Dynamics* (2014), section 8.1.

    >>> x_seq = torch.full((4, 3), 0.75)
    >>> once, again = (NoisyLIFNode(0.5, generator=torch.Generator().manual_seed(7), step_mode="m") for _ in range(2))
    >>> torch.equal(once(x_seq), again(x_seq))
    True
    >>> NoisyLIFNode(0.0, v_threshold=0.5, step_mode="m")(torch.full((4, 1), 0.9)).flatten()
    tensor([0., 1., 0., 1.])
    """

    sigma: Value = value(at_least=0.0, kw_only=True)
    generator: torch.Generator | None = option(default=None, shapes_dynamics=False)

    example = {"sigma": 0.0}

    def drive(self, x_seq: Tensor) -> Tensor:
        moving = self.moving_numbers()
        told = moving.get("sigma")
        sigma = self.sigma if told is None else told
        if not isinstance(sigma, Tensor) and sigma == 0:
            return x_seq
        given: dict[str, Any] = {} if self.generator is None else {"generator": self.generator}
        noise = [torch.randn(x.shape, dtype=x.dtype, device=x.device, **given) for x in x_seq]
        return x_seq + sigma * torch.stack(noise) if noise else x_seq

    def _plainly_driven(self) -> bool:
        """Without noise, unless a subclass drives it in another way."""
        if "sigma" in self.moving_numbers():  # asked first: compiled code would hold on to the number
            return False
        still = type(self.sigma) in (int, float) and not self.sigma
        return still and type(self).drive is NoisyLIFNode.drive

    def _drive_keeps_form(self) -> bool:
        """A tensor may bring axes and a precision of its own."""
        return type(self.__dict__.get("sigma")) is float

    def _follow(self, name: str, given: Any) -> None:
        """Without noise none is drawn, so that a 0 is a switch and no number."""
        super()._follow(name, None if name == "sigma" and type(given) is float and not given else given)

    def __setattr__(self, name: str, given: Any) -> None:
        if name == "generator" and not (given is None or isinstance(given, torch.Generator)):
            raise TypeError(
                f"{type(self).__name__}: generator must be a torch.Generator or None, but got {given!r}. "
                "For a seed write torch.Generator().manual_seed(seed)."
            )
        super().__setattr__(name, given)


NoisyLIFNode.ways = (*LeakyIntegrateAndFire.ways, *methods_of(NoisyLIFNode))

"""A network of spikes as the module that loops for images expect."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import StepModule
from ..errors import ShapeError, check_module, check_tensor, dims
from ..functional import multi_step_forward, reset_net

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """A network as a module without a past: each call begins from rest, so that no loop has to know of its state.

    - `net`: gives scores of each step, `[T, N, K]` in step mode `'m'` or `[N, K]` of one step in `'s'`; or of all.
    - `T`: how many steps an image `[N, *]` is shown for; None if samples are sequences `[N, T, *]`.

    The scores are the mean over the steps, `[N, K]`. Several calls before a backward pass are several samples each from
    rest. The state of the last call is in `net` until the next.

    >>> net = nn.Sequential(spikescope.layer.Linear(4, 3), spikescope.neuron.LIFNode())
    >>> images, frames = Classifier(net, T=8), Classifier(net, T=None)
    >>> x = torch.rand(2, 4)
    >>> torch.equal(images(x), frames(x.unsqueeze(1).expand(2, 8, 4))), torch.equal(images(x), images(x))
    (True, True)
    """

    def __init__(self, net: nn.Module, T: int | None = 4) -> None:
        super().__init__()
        check_module("Classifier", net)
        if T is not None and (isinstance(T, bool) or not isinstance(T, int) or T < 1):
            raise ValueError(
                f"Classifier: T must be a whole number of at least 1, or None for sequences, but got {T!r}."
            )
        self.net, self.T = net, T

    def forward(self, x: Tensor) -> Tensor:
        """The scores `[N, K]` of a batch."""
        check_tensor("Classifier", "the input", x)
        if self.T is None and x.dim() < 3:
            raise ShapeError(f"Classifier with T=None takes sequences [N, T, *], but got {dims(x.shape, 'N')}.")
        x_seq = x.transpose(0, 1) if self.T is None else x.unsqueeze(0).expand(self.T, *x.shape)
        reset_net(self.net)
        scores = multi_step_forward(x_seq, self.net) if self._single() else self.net(x_seq)
        if not isinstance(scores, Tensor) or scores.dim() not in (2, 3) or scores.shape[-2] != len(x):
            came = dims(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ShapeError(f"Classifier needs scores [T, N, K] or [N, K] for {dims(x.shape, 'N')}, but got {came}.")
        return scores.mean(0) if scores.dim() == 3 else scores

    def _single(self) -> bool:
        """Whether the network takes single steps; one of both modes takes what its first module does."""
        return next((held.step_mode for held in self.net.modules() if isinstance(held, StepModule)), "s") == "s"

    def extra_repr(self) -> str:
        return f"T={self.T}"

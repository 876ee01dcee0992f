"""Self-attention between tokens that are spikes: sums of products of spikes take the place of the softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from ..base import StepModule
from ..errors import ShapeError, check_choice, check_floating, check_whole, dims
from ..neuron import LIFNode
from .norm import BatchNorm1d, BatchNorm2d
from .stateless import Conv1d, Conv2d, check_axes

__all__ = [
    "ChannelQKAttention",
    "QKAttention",
    "SelfAttention",
    "SpikeDrivenSelfAttention",
    "SpikingSelfAttention",
    "TokenQKAttention",
]

NeuronMaker = Callable[..., nn.Module]


def _neuron(maker: NeuronMaker | None, step_mode: str, options: dict[str, Any], v_threshold: float = 1.0) -> nn.Module:
    """A neuron by `maker`, which knows its threshold itself, or a LIF neuron with this one."""
    if maker is not None:
        return maker(**options, step_mode=step_mode)
    return LIFNode(**{"v_threshold": v_threshold, "detach_reset": True, **options}, step_mode=step_mode)


def _conv_bn(dim: int, out: int, step_mode: str) -> nn.Sequential:
    conv = Conv1d(dim, out, 1, bias=False, step_mode=step_mode)
    return nn.Sequential(conv, BatchNorm1d(out, step_mode=step_mode))


class SelfAttention(StepModule, nn.Module):
    """Base of the attentions: the sizes, the step mode of all that is inside, and what they are built of.

    - `dim`: the number of channels. `num_heads`: into how many groups these are split; a divisor of `dim`.
    - `spiking_neuron`: a class or function that makes the neurons from the keyword `step_mode` and `kwargs`; None
      takes `LIFNode` with `detach_reset=True`, the one after the attention with `v_threshold=0.5`.
    - `kwargs`: further arguments of all neurons.
    """

    axes: ClassVar[tuple[str, ...]] = ("N", "C", "L")

    def __init__(self, dim: int, num_heads: int, step_mode: str) -> None:
        super().__init__()
        owner = type(self).__name__
        self.dim, self.num_heads = check_whole(owner, "dim", dim), check_whole(owner, "num_heads", num_heads)
        if self.dim % self.num_heads:
            raise ValueError(f"{owner}: dim must be a multiple of num_heads, but got {dim} and {num_heads}.")
        check_choice(owner, "step_mode", step_mode, self.supported_step_mode())
        self._step_mode = step_mode

    @property
    def step_mode(self) -> str:
        """`'s'` for steps, `'m'` for sequences; setting it sets all layers and neurons inside."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        check_choice(type(self).__name__, "step_mode", value, self.supported_step_mode())
        self._step_mode = value
        for inner in self.modules():
            if inner is not self and isinstance(inner, StepModule):
                inner.step_mode = value

    def _check(self, x: Tensor) -> None:
        owner = type(self).__name__
        check_floating(owner, x)
        check_axes(owner, x, self.axes, self._step_mode)
        if x.shape[-len(self.axes) + 1] != self.dim:
            time = "T" if self._step_mode == "m" else ""
            raise ShapeError(
                f"{owner} takes C={self.dim} channels, but got {dims(x.shape, time + ''.join(self.axes))}."
            )

    def _heads(self, spikes: Tensor, parts: int) -> tuple[Tensor, ...]:
        """`[*, parts * C, L]` as `parts` tensors `[*, heads, C / heads, L]`."""
        return spikes.unflatten(-2, (parts, self.num_heads, self.dim // self.num_heads)).unbind(-4)

    def _attended(self, spikes: Tensor, scale: float) -> Tensor:
        r"""$s\, Q K^T V$ of `[*, 3 * C, L]`, queries, keys and values, in each head, as `[*, C, L]`.

        Sums of products of spikes are whole numbers, so they are taken in the order that costs less.
        """
        q, k, v = self._heads(spikes, 3)
        few_channels = q.shape[-2] <= q.shape[-1]
        mixed = (v @ k.mT) @ q if few_channels else v @ (k.mT @ q)
        return (mixed * scale).flatten(-3, -2)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, num_heads={self.num_heads}, step_mode={self.step_mode}"


class SpikingSelfAttention(SelfAttention):
    r"""Self-attention of Spikformer: queries, keys and values are spikes, and no softmax is needed.

    $$Q, K, V = \text{SN}(\text{BN}(W_{q,k,v}\, x)) \qquad
      y = \text{SN}\left(\text{BN}\left(W_p\, \text{SN}(s\, Q K^T V)\right)\right)$$

    in each head, with the scale $s = 1/8$. Sums of products of spikes are whole numbers, so they are taken in the order
    that costs less, $Q (K^T V)$ for many tokens, with the same result. A sequence `[T, N, C, L]` of L tokens goes in
    and comes out; `functional.set_step_mode(layer, "s")` for steps `[N, C, L]`. For the arguments see `SelfAttention`.

    Zhou et al., *Spikformer: when spiking neural network meets transformer* (ICLR 2023).

    >>> layer = SpikingSelfAttention(dim=8, num_heads=2)
    >>> y = layer((torch.rand(4, 2, 8, 5) < 0.5).float())
    >>> y.shape, set(y.unique().tolist()) <= {0.0, 1.0}
    (torch.Size([4, 2, 8, 5]), True)
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, step_mode)
        dim = self.dim
        self.scale = 0.125
        self.qkv_conv_bn = _conv_bn(dim, check_whole(type(self).__name__, "3 * dim", 3 * dim), step_mode)
        self.qkv_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.attn_lif = _neuron(spiking_neuron, step_mode, kwargs, v_threshold=0.5)
        self.proj_conv_bn = _conv_bn(dim, dim, step_mode)
        self.proj_lif = _neuron(spiking_neuron, step_mode, kwargs)

    def forward(self, x_seq: Tensor) -> Tensor:
        """A sequence `[T, N, C, L]`, or a step `[N, C, L]`."""
        self._check(x_seq)
        spikes = self.attn_lif(self._attended(self.qkv_lif(self.qkv_conv_bn(x_seq)), self.scale))
        return self.proj_lif(self.proj_conv_bn(spikes))


class QKAttention(SelfAttention):
    r"""Attention of QKFormer: the queries decide which keys pass, in time linear in tokens and channels.

    $$Q, K = \text{SN}(\text{BN}(W_{q,k}\, x)) \qquad A = \text{SN}\Big(\sum Q\Big) \qquad
      y = \text{SN}(\text{BN}(W_p\, (A \odot K)))$$

    - `qka_type`: `'token'` sums over the channels of a head, so that A is a mask of its tokens; `'channel'` sums over
      the tokens, so that A is a mask of channels. For the other arguments see `SelfAttention`.

    A sequence `[T, N, C, L]` of L tokens, or a step `[N, C, L]`.

    Zhou et al., *QKFormer: hierarchical spiking transformer using Q-K attention* (NeurIPS 2024).

    >>> y = QKAttention(dim=8, num_heads=2, qka_type="channel")((torch.rand(4, 2, 8, 5) < 0.5).float())
    >>> y.shape, set(y.unique().tolist()) <= {0.0, 1.0}
    (torch.Size([4, 2, 8, 5]), True)
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qka_type: str = "token",
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, step_mode)
        dim = self.dim
        check_choice(type(self).__name__, "qka_type", qka_type, ("token", "channel"))
        self._summed = {"token": -2, "channel": -1}[qka_type]
        self._qka_type = qka_type
        self.qk_conv_bn = _conv_bn(dim, check_whole(type(self).__name__, "2 * dim", 2 * dim), step_mode)
        self.qk_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.attn_lif = _neuron(spiking_neuron, step_mode, kwargs, v_threshold=0.5)
        self.proj_conv_bn = _conv_bn(dim, dim, step_mode)
        self.proj_lif = _neuron(spiking_neuron, step_mode, kwargs)

    @property
    def qka_type(self) -> str:
        """What the mask is of: `'token'` or `'channel'`."""
        return self._qka_type

    def forward(self, x_seq: Tensor) -> Tensor:
        """A sequence `[T, N, C, L]`, or a step `[N, C, L]`."""
        self._check(x_seq)
        q, k = self._heads(self.qk_lif(self.qk_conv_bn(x_seq)), 2)
        mask = self.attn_lif(q.sum(self._summed, keepdim=True))
        return self.proj_lif(self.proj_conv_bn((mask * k).flatten(-3, -2)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, qka_type={self.qka_type}"


class TokenQKAttention(QKAttention):
    """`QKAttention` with a mask of tokens.

    >>> TokenQKAttention(dim=8)(torch.rand(4, 2, 8, 5)).shape
    torch.Size([4, 2, 8, 5])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, "token", spiking_neuron, step_mode, **kwargs)


class ChannelQKAttention(QKAttention):
    """`QKAttention` with a mask of channels.

    >>> ChannelQKAttention(dim=8)(torch.rand(4, 2, 8, 5)).shape
    torch.Size([4, 2, 8, 5])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, "channel", spiking_neuron, step_mode, **kwargs)


class SpikeDrivenSelfAttention(SelfAttention):
    r"""Self-attention of the Spike-driven Transformer, which multiplies spikes by spikes, point by point.

    $$Q, K, V = \text{SN}(\text{BN}(W_{q,k,v} * \text{SN}(x))) \qquad
      y = x + \text{BN}\Big(W_p * \Big(Q \odot \text{SN}\Big(\sum_{tokens} K \odot V\Big)\Big)\Big)$$

    The sum is one number for each channel, so that the result does not depend on `num_heads`. What goes in and comes
    out, `[T, N, C, H, W]` or in steps `[N, C, H, W]`, are potentials and no spikes. For the arguments see
    `SelfAttention`.

    Yao et al., *Spike-driven Transformer* (NeurIPS 2023).

    >>> SpikeDrivenSelfAttention(dim=8)(torch.rand(4, 2, 8, 3, 3)).shape
    torch.Size([4, 2, 8, 3, 3])
    """

    axes = ("N", "C", "H", "W")

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        spiking_neuron: NeuronMaker | None = None,
        step_mode: str = "m",
        **kwargs: Any,
    ) -> None:
        super().__init__(dim, num_heads, step_mode)
        dim = self.dim
        self.shortcut_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.q_conv = Conv2d(dim, dim, 1, bias=False, step_mode=step_mode)
        self.q_bn = BatchNorm2d(dim, step_mode=step_mode)
        self.q_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.k_conv = Conv2d(dim, dim, 1, bias=False, step_mode=step_mode)
        self.k_bn = BatchNorm2d(dim, step_mode=step_mode)
        self.k_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.v_conv = Conv2d(dim, dim, 1, bias=False, step_mode=step_mode)
        self.v_bn = BatchNorm2d(dim, step_mode=step_mode)
        self.v_lif = _neuron(spiking_neuron, step_mode, kwargs)
        self.attn_lif = _neuron(spiking_neuron, step_mode, kwargs, v_threshold=0.5)
        self.proj_conv = Conv2d(dim, dim, 1, step_mode=step_mode)
        self.proj_bn = BatchNorm2d(dim, step_mode=step_mode)

    def forward(self, x: Tensor) -> Tensor:
        """A sequence `[T, N, C, H, W]`, or a step `[N, C, H, W]`."""
        self._check(x)
        spikes = self.shortcut_lif(x)
        q = self.q_lif(self.q_bn(self.q_conv(spikes)))
        k = self.k_lif(self.k_bn(self.k_conv(spikes)))
        v = self.v_lif(self.v_bn(self.v_conv(spikes)))
        return self.proj_bn(self.proj_conv(self.mixed(q, k, v))) + x

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The queries, where keys and values of all tokens together let them pass."""
        return q * self.attn_lif((k * v).sum((-2, -1), keepdim=True))

"""Training forward in time: an update, or a gradient, at every step, with the memory of one step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ShapeError, check_bound, check_module, check_switches, check_tensor, dims
from .network import detach_net, get_state, set_state

__all__ = ["fptt_online_training", "fptt_online_training_init_w_ra", "ottt_online_training"]

StepLoss = Callable[[Tensor, Tensor], Tensor]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [w for group in optimizer.param_groups for w in group["params"]]


def fptt_online_training_init_w_ra(optimizer: Optimizer) -> list[Tensor]:
    """The running averages that `fptt_online_training` starts from: a copy of every parameter of the optimizer.

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> w_ra = fptt_online_training_init_w_ra(torch.optim.SGD([w], lr=0.1))
    >>> _ = w.data.fill_(2.0)
    >>> w_ra
    [tensor([1.])]
    """
    return [w.detach().clone() for w in _parameters(optimizer)]


def fptt_online_training(
    model: nn.Module,
    optimizer: Optimizer,
    x_seq: Tensor,
    target_seq: Tensor,
    f_loss_t: StepLoss,
    alpha: float,
    w_ra: list[Tensor],
) -> None:
    r"""Forward propagation through time: one update of the weights at every step of the sequence.

    $$\ell_t + \tfrac{\alpha}{2} \sum_i \mathrm{MSE}\left(w_i,\; \bar w_i + \tfrac{1}{2\alpha} g_i\right) \qquad
      \bar w_i \leftarrow \tfrac{1}{2}(\bar w_i + w_i) - \tfrac{1}{2\alpha} g_i$$

    where $g = \nabla \ell_t$ at the new weights (0 at the first step), from a second run of $x_t$ that leaves no state.

    - `model`: takes single steps; its state goes on from step to step, without gradient.
    - `x_seq`, `target_seq`: `[T, N, *]` each; `f_loss_t(y_t, target_t)` is the loss of one step.
    - `alpha`: the strength of the pull to the running averages, above 0.
    - `w_ra`: what `fptt_online_training_init_w_ra` gave; its entries are replaced, for the next call.

    Parameters that get no gradient are skipped. Kag and Saligrama, *Training recurrent neural networks via forward
    propagation through time* (ICML 2021); Yin et al. (2023) for spiking networks.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(1.0)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    >>> w_ra = fptt_online_training_init_w_ra(optimizer)
    >>> x_seq, loss = torch.ones(2, 1, 1), lambda y, target: (y - target).sum()  # g = 1
    >>> fptt_online_training(net, optimizer, x_seq, torch.zeros(2, 1, 1), loss, 1.0, w_ra)
    >>> w_ra, net.weight.item()  # w = 1 - 0.5 * 1; wbar = (1 + 0.5)/2 - 0.5; w = 0.5 - 0.5 * (1 + 0.5 - 0.75)
    ([tensor([[0.2500]])], 0.125)
    """
    _check_sequences("fptt_online_training", model, x_seq, target_seq, 0)
    parameters = _parameters(optimizer)
    check_bound("fptt_online_training", "alpha", alpha, above=0)
    if [w.shape for w in w_ra] != [w.shape for w in parameters]:
        raise ShapeError(
            f"fptt_online_training: w_ra has {len(w_ra)} running averages that do not match the {len(parameters)} "
            "parameters of the optimizer. Make it with fptt_online_training_init_w_ra(optimizer)."
        )
    gradients: list[Tensor | None] = [None] * len(parameters)
    for t, (x, target) in enumerate(zip(x_seq, target_seq, strict=True)):
        optimizer.zero_grad()
        f_loss_t(model(x), target).backward()
        _pull(parameters, w_ra, gradients, alpha)
        optimizer.step()
        detach_net(model)
        if t < len(x_seq) - 1:
            gradients = _gradients_again(model, parameters, x, target, f_loss_t)
            _average(parameters, w_ra, gradients, alpha)


@torch.no_grad()
def _pull(parameters: list[Tensor], w_ra: list[Tensor], gradients: list[Tensor | None], alpha: float) -> None:
    """Add the gradient of the pull to those of the loss: of a mean of squares it is a difference over their number."""
    for w, average, g in zip(parameters, w_ra, gradients, strict=True):
        if w.grad is not None:
            goal = average if g is None else average + g / (2 * alpha)
            w.grad += (w - goal) * (alpha / max(w.numel(), 1))


def _gradients_again(
    model: nn.Module, parameters: list[Tensor], x: Tensor, target: Tensor, f_loss_t: StepLoss
) -> list[Tensor | None]:
    """The gradients of the loss of one step at the present weights; the state is left as it was."""
    state = get_state(model)
    wanted = [i for i, w in enumerate(parameters) if w.requires_grad]
    loss = f_loss_t(model(x), target)
    found = torch.autograd.grad(loss, [parameters[i] for i in wanted], allow_unused=True)
    set_state(model, state)
    gradients: list[Tensor | None] = [None] * len(parameters)
    for i, g in zip(wanted, found, strict=True):
        gradients[i] = g
    return gradients


@torch.no_grad()
def _average(parameters: list[Tensor], w_ra: list[Tensor], gradients: list[Tensor | None], alpha: float) -> None:
    for i, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
        if g is not None:
            w_ra[i] = (w_ra[i] + w) / 2 - g / (2 * alpha)


def ottt_online_training(
    model: nn.Module, optimizer: Optimizer, x_seq: Tensor, target_seq: Tensor, f_loss_t: StepLoss, online: bool
) -> tuple[Tensor, Tensor]:
    r"""Online training through time, or spatial learning through time: one backward pass at every step.

    - `model`: an `OTTTSequential` with `OTTTLIFNode`, or a network with `SLTTLIFNode`, in single steps; the last layer
      may be any neuron. The state goes on from step to step without gradient; reset it before the next batch.
    - `x_seq`, `target_seq`: `[N, T, *]` each, batch first; `f_loss_t(y_t, target_t)` is the loss of one step.
    - `online`: the optimizer steps at every t; or once at the end, with the sum of the gradients.

    Returns the sum of the losses and the outputs `[N, T, *]`, both without graph; of a pair `[spike, trace]` the spike.

    Xiao et al. (NeurIPS 2022); Meng et al. (ICCV 2023).

    >>> net = spikescope.layer.OTTTSequential(nn.Linear(1, 1), spikescope.neuron.LIFNode())
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> x_seq = torch.ones(2, 3, 1)
    >>> loss, y_seq = ottt_online_training(net, optimizer, x_seq, x_seq, nn.functional.mse_loss, online=True)
    >>> y_seq.shape, loss.requires_grad
    (torch.Size([2, 3, 1]), False)
    """
    check_switches("ottt_online_training", online=online)
    _check_sequences("ottt_online_training", model, x_seq, target_seq, 1)
    if not x_seq.shape[1]:
        raise ShapeError(f"ottt_online_training takes at least one step, but got x_seq {dims(x_seq.shape, 'NT')}.")
    optimizer.zero_grad()
    losses, outputs = [], []
    for t, (x, target) in enumerate(zip(x_seq.unbind(1), target_seq.unbind(1), strict=True)):
        if online and t:
            optimizer.zero_grad()
        y = model(x)
        y = y[0] if isinstance(y, list) else y
        loss = f_loss_t(y, target)
        loss.backward()
        detach_net(model)
        losses.append(loss.detach())
        outputs.append(y.detach())
        if online or t == x_seq.shape[1] - 1:
            optimizer.step()
    return torch.stack(losses).sum(), torch.stack(outputs, 1)


def _check_sequences(owner: str, model: nn.Module, x_seq: Tensor, target_seq: Tensor, axis: int) -> None:
    check_module(owner, model)
    for name, held in (("x_seq", x_seq), ("target_seq", target_seq)):
        check_tensor(owner, name, held)
    layout = ("[T, N, *]", "[N, T, *]")[axis]
    if min(x_seq.ndim, target_seq.ndim) <= axis or x_seq.shape[axis] != target_seq.shape[axis]:
        raise ShapeError(
            f"{owner} takes x_seq and target_seq {layout} of the same T, but got {dims(x_seq.shape)} and "
            f"{dims(target_seq.shape)}."
        )

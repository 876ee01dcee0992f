"""The vmap rules of the operators: the axis that is mapped over joins the axes of a step, right after time."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import operator
from .key import kinds_of, with_kinds

__all__: list[str] = []


def _sequence(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """`[T, *step]` to `[T, B, *step]`."""
    if dim is None:
        return tensor.unsqueeze(1).expand(-1, size, *tensor.shape[1:])
    return tensor.movedim(dim, 1)


def _step(tensor: Tensor, dim: int | None, size: int, ndim: int) -> Tensor:
    """A state or a field, whose axes are the last of a step of `ndim` axes, to `[B, *step]`."""
    if dim is None:
        tensor, dim = tensor.unsqueeze(0).expand(size, *tensor.shape), 0
    tensor = tensor.movedim(dim, 0)
    return tensor.reshape(size, *(1,) * (ndim - (tensor.ndim - 1)), *tensor.shape[1:])


def _all_arrays(key: str) -> str:
    """The key of the same neuron with an element per sample in every tensor field."""
    return with_kinds(key, kinds_of(key).replace("s", "a"))


def _forward(info: Any, in_dims: Any, *args: Any) -> Any:
    x_seq, state, tensors, numbers, starts, key, backend, keep_v, keep_checkpoints, taps = args
    x_dim, state_dims, tensor_dims, *_ = in_dims
    size = info.batch_size
    if taps:
        raise NotImplementedError("taps of a fused kernel are not available under torch.func.vmap")
    x_seq = _sequence(x_seq, x_dim, size).contiguous()
    shape = x_seq.shape[1:]
    ndim = len(shape) - 1
    state = [_step(s, d, size, ndim).expand(shape) for s, d in zip(state, _each(state_dims, state), strict=True)]
    tensors = [_step(p, d, size, ndim) for p, d in zip(tensors, _each(tensor_dims, tensors), strict=True)]
    rest = (numbers, starts, _all_arrays(key), backend, keep_v, keep_checkpoints, taps)
    out = operator.neuron(x_seq, state, tensors, *rest)
    dims = [1, *(0 for _ in starts)]
    if keep_v:
        dims.append(1)
    if keep_checkpoints:
        out[-1] = out[-1].unflatten(2, (size, -1)) if out[-1].numel() else out[-1].new_empty(0, len(starts), size, 0)
        dims.append(2)
    return out, dims


def _backward(info: Any, in_dims: Any, *args: Any) -> Any:
    x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, starts, wanted, key, backend = args
    x_dim, state_dims, tensor_dims, checkpoint_dim, gy_dim, gv_dim, gstate_dims, *_ = in_dims
    size, shapes = (
        info.batch_size,
        [_sample_shape(p, d) for p, d in zip(tensors, _each(tensor_dims, tensors), strict=True)],
    )
    state_shapes = [_sample_shape(s, d) for s, d in zip(state, _each(state_dims, state), strict=True)]
    x_seq = _sequence(x_seq, x_dim, size).contiguous()
    shape = x_seq.shape[1:]
    ndim = len(shape) - 1
    state = [_step(s, d, size, ndim).expand(shape) for s, d in zip(state, _each(state_dims, state), strict=True)]
    tensors = [_step(p, d, size, ndim) for p, d in zip(tensors, _each(tensor_dims, tensors), strict=True)]
    gstate = [
        None if s is None else _step(s, d, size, ndim).expand(shape)
        for s, d in zip(gstate, _each(gstate_dims, gstate), strict=True)
    ]
    if checkpoints is not None:
        checkpoints = _sequence(checkpoints, checkpoint_dim, size) if checkpoint_dim is None else checkpoints
        checkpoints = checkpoints.movedim(1 if checkpoint_dim is None else checkpoint_dim, 2).flatten(2).contiguous()
    gy = _sequence(gy, gy_dim, size)
    gv_seq = None if gv_seq is None else _sequence(gv_seq, gv_dim, size)
    gx, *rest = operator.neuron_backward(
        x_seq, state, tensors, checkpoints, gy, gv_seq, gstate, numbers, starts, wanted, _all_arrays(key), backend
    )
    wanted_shapes = [*state_shapes, *(shapes[i] for i in wanted)]
    rest = [
        held.sum_to_size(size, *(1,) * (ndim - len(s)), *s).reshape(size, *s)
        for held, s in zip(rest, wanted_shapes, strict=True)
    ]
    return [gx, *rest], [1, *(0 for _ in rest)]


operator.neuron.register_vmap(_forward)
operator.neuron_backward.register_vmap(_backward)


def _each(dims: Any, tensors: list[Any]) -> list[int | None]:
    return [None] * len(tensors) if dims is None else list(dims)


def _sample_shape(tensor: Tensor, dim: int | None) -> tuple[int, ...]:
    shape = list(tensor.shape)
    if dim is not None:
        del shape[dim]
    return tuple(shape)

"""The C++ kernels of a recurrent cell: one step of `[N, H]` units, forwards and backwards, around the printed bodies.

The gates of a sample lie side by side, `[N, gates * H]`, as the products give them.
"""

from __future__ import annotations

import torch

from ..graphs.printing import assignments, each
from ..graphs.slopes import with_slopes
from ..graphs.trace import Body
from .kernel import block, loops, numbers, prelude
from .phases import Phases, arranged, ends

__all__ = ["backward_source", "forward_source"]

_NOTHING = frozenset[str]()


def forward_source(body: Body, gates: int, real: torch.dtype) -> str:
    """The kernel of a step: the next states.

    - fixed: N, H, the constants
    - given: threads, drive, feedback, the states, the next states
    """
    states = len(body.inputs) - 2 * gates
    made, outputs = assignments(body, "cpp")
    printed = arranged(made, outputs, {})
    opening = [*_products(gates), *_states(states, 3)]
    closing = [f"((real*)M[{3 + states + j}])[s + i] = {outputs[j]};" for j in range(states)]
    return _source(body, "enter_forward", gates, states, real, printed, opening, closing)


def backward_source(body: Body, gates: int, alike: bool, real: torch.dtype) -> str:
    """The kernel of a step backwards: gradients of drive, feedback and states.

    - fixed: N, H, the constants
    - given: threads, drive, feedback, the states, the gradient of the output in this step, those of the next states,
      then where the gradients go: of the drive, of the feedback (nowhere if they are `alike`), of the states
    """
    states = (len(body.inputs) - 2 * gates) // 2
    made, outputs = assignments(body, "cpp")
    made = with_slopes(made, _NOTHING)
    printed = arranged(made, outputs, {}, ends(made))
    out, back = 3 + states, 4 + 2 * states
    opening = [
        *(*_products(gates), *_states(states, 3)),
        f"const real g0 = ((const real*)M[{out}])[s + i] + ((const real*)M[{out + 1}])[s + i];",
        *(f"const real g{j} = ((const real*)M[{out + 1 + j}])[s + i];" for j in range(1, states)),
    ]
    closing = [f"((real*)M[{back}])[w + {k} * H + i] = {outputs[k]};" for k in range(gates)]
    if not alike:
        closing += [f"((real*)M[{back + 1}])[w + {k} * H + i] = {outputs[gates + k]};" for k in range(gates)]
    closing += [f"((real*)M[{back + 2 + j}])[s + i] = {outputs[2 * gates + j]};" for j in range(states)]
    return _source(body, "enter_backward", gates, states, real, printed, opening, closing)


def _products(gates: int) -> list[str]:
    """Drive and feedback of each gate."""
    drive = each("const real d@ = ((const real*)M[1])[w + @ * H + i];", gates)
    return drive + each("const real r@ = ((const real*)M[2])[w + @ * H + i];", gates)


def _states(states: int, first: int) -> list[str]:
    return [f"const real s{j} = ((const real*)M[{first + j}])[s + i];" for j in range(states)]


def _source(
    body: Body,
    name: str,
    gates: int,
    states: int,
    real: torch.dtype,
    printed: Phases,
    opening: list[str],
    closing: list[str],
) -> str:
    return f"""{prelude(real, states)}
extern "C" void {name}(const long* F, void* const* M) {{
  const long N = F[0], H = F[1], blocks = (H + B - 1) / B;
  const double* C = (const double*)(F + 2);
  const int threads = (int)(long)M[0];
  {block(numbers(body, "C", _NOTHING), 2)}
  #pragma omp parallel for num_threads(threads) schedule(static) if(threads > 1)
  for (long k = 0; k < N * blocks; k++) {{
    const long o = k % blocks * B, e = H - o < B ? H - o : B;
    const long s = k / blocks * H + o, w = k / blocks * {gates} * H + o;  // where states and gates begin
    {block(printed.arrays, 4)}
    {loops(printed, opening, closing, 4)}
  }}
}}
"""

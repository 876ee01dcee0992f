"""Random configurations, kernel against eager loop: forwards bit for bit, gradients within the tolerance, NaN alike.

    python tests/sweeps/fuzz_backends.py [N] [--seed S] [--only I]

A configuration is a form (neuron, surrogate, options, dtype, kind of each field) and what a compiled kernel is not made
for: values, layouts, steps, state. `PER_FORM` of them share a form, which bounds how many kernels are compiled. Every
failure is one line, which ends with the command that repeats it.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "dynamics"))
from dynamics_cases import NEURONS, SURROGATES, TOLERANCE, exactness, inputs

PER_FORM = 40
UPSTROKE = 64 * TOLERANCE
DTYPES = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
STEPS = (0, 1, 2, 3, 3, 17, 17, 255)
LAYOUTS = ("contiguous", "channels_last", "transposed", "expanded", "batch expanded", "sliced", "time second", "empty")
SPECIAL = (torch.nan, torch.inf, -torch.inf, -0.0, 1e-40, -1e-40, 6e4, -6e4, 1e30)
SHAPE = (2, 3, 4, 5)  # of a step
SHARES = {"s": [()], "a": [(3, 1, 1), (1, 3, 1, 1), (3, 4, 5), (2, 3, 4, 5), (5,)]}


class Form(NamedTuple):
    """What a compiled kernel is made for."""

    neuron: type[Any]
    surrogate: type[Any] | None
    options: dict[str, Any]
    dtype: torch.dtype
    fields: dict[str, str]  # 'n', 's' or 'a', and 'p' behind it for a Parameter
    of_surrogate: dict[str, str]


class Case(NamedTuple):
    """The rest of a configuration; `fields` holds the values, of the neuron and of the surrogate."""

    fields: dict[str, Any]
    of_surrogate: dict[str, Any]
    x_seq: Tensor
    state: str
    state_dtype: torch.dtype
    single: bool
    store_v_seq: bool
    layout: str
    special: bool


def draw_form(rng: random.Random, number: int) -> Form:
    """Every neuron in turn, so that a run of any length has all of them."""
    cls = NEURONS[number % len(NEURONS)]
    takes = cls.arguments.parameters
    choices = (
        {
            "v_reset": [None] if rng.random() < 0.4 and cls.fields["v_reset"].dynamic else [],
            "detach_reset": [True, False],
            "decay_input": [True, False],
            "scale_reset": [True, False],
            "threshold_related": [True, False],
            "decode": ["max-mem", "max-abs-mem", "mean-mem", "last-mem"],
        }
        if "v_reset" in cls.fields
        else {"decode": ["max-mem", "max-abs-mem", "mean-mem", "last-mem"]}
    )
    options = {name: rng.choice(held) for name, held in choices.items() if name in takes and held}
    surrogate = None
    if "surrogate_function" in takes:
        counts = cls.__name__ == "ILIFNode"
        surrogate = (
            next(s for s in SURROGATES if s.__name__ == "MultiLevelSpikeCount") if counts else rng.choice(SURROGATES)
        )
    kind = lambda: rng.choice(("n", "n", "s", "sp", "sp", "a", "ap"))  # noqa: E731
    fields = {name: kind() for name in cls.dynamic if name not in ("x_scale", "x_shift") and name not in options}
    if cls.__name__ == "GatedLIFNode":
        fields = dict.fromkeys(fields, "sp")
    fields |= {name: "sp" for name in fields if not cls.fields[name].init}
    if rng.random() < 0.1:
        fields |= {"x_scale": rng.choice(("s", "a", "ap")), "x_shift": rng.choice(("s", "a", "ap"))}
    of_surrogate = {} if surrogate is None else {name: kind() for name in surrogate.dynamic}
    if surrogate is not None and not surrogate.has_primitive():
        of_surrogate = {name: held[0] for name, held in of_surrogate.items()}
    return Form(cls, surrogate, options, rng.choice(DTYPES), fields, of_surrogate)


def draw_value(rng: random.Random, kind: str, base: float, empty: bool) -> Any:
    """A value of a field about its default, of any dtype; a number is round at times."""
    start = base * rng.uniform(0.9, 1.6) + rng.choice((0.0, 0.0173)) if rng.random() < 0.8 else base
    if kind == "n":
        return start
    shape = rng.choice([shape for shape in SHARES[kind[0]] if shape != SHAPE or not empty])
    dtype = rng.choice((torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16))
    spread = torch.linspace(1.0, 1.3, max(1, torch.Size(shape).numel()), dtype=torch.float64).reshape(shape)
    held = (start * spread).to(dtype)
    return nn.Parameter(held) if kind[-1] == "p" else held


def defaults(cls: type[Any], made: Any) -> dict[str, float]:
    found = {name: getattr(made, name) for name in cls.dynamic}
    return {name: 1.0 if held is None else float(torch.as_tensor(held).detach()) for name, held in found.items()}


def draw_input(rng: random.Random, dtype: torch.dtype, steps: int, layout: str, special: bool) -> Tensor:
    """A sequence `[T, *SHAPE]` in a memory order."""
    seed = rng.randrange(1 << 30)
    n, c, h, w = SHAPE
    x = {
        "contiguous": lambda: inputs(steps, *SHAPE, dtype=dtype, seed=seed),
        "channels_last": lambda: inputs(steps, n, h, w, c, dtype=dtype, seed=seed).movedim(4, 2),
        "transposed": lambda: inputs(steps, n, c, w, h, dtype=dtype, seed=seed).transpose(3, 4),
        "expanded": lambda: inputs(1, *SHAPE, dtype=dtype, seed=seed).expand(steps, *SHAPE),
        "batch expanded": lambda: inputs(steps, 1, c, h, w, dtype=dtype, seed=seed).expand(steps, *SHAPE),
        "sliced": lambda: inputs(2 * steps, n, c, h, 2 * w, dtype=dtype, seed=seed)[::2, ..., 1::2],
        "time second": lambda: inputs(n, steps, c, h, w, dtype=dtype, seed=seed).transpose(0, 1),
        "empty": lambda: inputs(steps, 0, c, h, w, dtype=dtype, seed=seed),
    }[layout]()
    if special and x.numel():
        held = torch.tensor([rng.choice(SPECIAL) for _ in range(8)], dtype=torch.float64).to(dtype)
        places = torch.tensor([rng.randrange(x.numel()) for _ in range(8)])
        whole = x.reshape(-1).index_copy(0, places, held).view(x.shape)
        x = whole if layout in ("expanded", "batch expanded", "sliced") else torch.empty_like(x).copy_(whole)
    return x


def draw_case(form: Form, rng: random.Random) -> Case:
    layout, special = rng.choice(LAYOUTS), rng.random() < 0.2
    steps = rng.choice(STEPS)
    reads = "decode" in form.neuron.fields
    if form.neuron.__name__ == "GatedLIFNode":
        steps = min(steps, 17)
    if reads:
        steps = max(1, steps)
    bases = defaults(form.neuron, form.neuron(**form.neuron.example))
    fields = {name: draw_value(rng, kind, bases[name], layout == "empty") for name, kind in form.fields.items()}
    of_surrogate = {}
    if form.surrogate is not None:
        bases = defaults(form.surrogate, form.surrogate(**form.surrogate.example))
        of_surrogate = {
            name: draw_value(rng, kind, bases[name], layout == "empty") for name, kind in form.of_surrogate.items()
        }
    real = torch.float64 if form.dtype is torch.float64 else torch.float32
    return Case(
        fields,
        of_surrogate,
        draw_input(rng, form.dtype, steps, layout, special),
        rng.choice(("rest", "rest", "given", "partly", "learnable", "number")),
        rng.choice((real, real, torch.float16)),
        steps in (1, 2, 3) and rng.random() < 0.4,
        rng.random() < 0.4,
        layout,
        special,
    )


def copied(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: nn.Parameter(held.detach().clone()) if isinstance(held, nn.Parameter) else held
        for name, held in fields.items()
    }


def make(form: Form, case: Case, backend: str) -> Any:
    """The neuron of a configuration on a backend, with Parameters of its own."""
    more = dict(form.neuron.example) | form.options
    if "T" in more:
        more["T"] = max(1, len(case.x_seq))
    if form.surrogate is not None:
        more["surrogate_function"] = form.surrogate(**dict(form.surrogate.example) | copied(case.of_surrogate))
    node = form.neuron(**more, step_mode="s" if case.single else "m", backend=backend, store_v_seq=case.store_v_seq)
    for name, held in copied(case.fields).items():
        setattr(node, name, held)
    return node


def started(node: Any, case: Case) -> dict[str, Tensor]:
    """Give the node its first state; what a gradient is wanted of."""
    x_seq = case.x_seq.detach().requires_grad_()
    names = type(node).State._fields
    given = {"rest": (), "given": names, "partly": names[:1], "learnable": names, "number": names[-1:]}[case.state]
    leaves = {"x": x_seq} | dict(node.named_parameters())
    for i, name in enumerate(given):
        if case.state == "number":
            setattr(node, name, 0.137)
            continue
        held = (inputs(*x_seq.shape[1:], dtype=torch.float32, seed=7 + i) / 5).to(case.state_dtype)
        held = nn.Parameter(held) if case.state == "learnable" else held.requires_grad_()
        leaves[f"start {name}"] = held
        setattr(node, name, held)
    return leaves


def run(node: Any, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Everything that a run gives, forwards and backwards."""
    torch.manual_seed(1)  # of the noise, for a neuron that has it
    leaves, names = started(node, case), type(node).State._fields
    x_seq = leaves["x"]
    if case.single and len(x_seq):
        forward = {"output": torch.stack([node(x) for x in x_seq])}
    else:
        forward = {"output": node(x_seq)}
    forward |= {name: getattr(node, name) for name in names}
    forward |= {"v_seq": node.v_seq} if case.store_v_seq else {}
    forward = {name: held for name, held in forward.items() if isinstance(held, Tensor)}
    loss = sum((held.double() * inputs(*held.shape, dtype=torch.float64, seed=31)).sum() for held in forward.values())
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {name: held.detach() for name, held in forward.items()}, dict(zip(leaves, found, strict=True))


def differ(
    got: Tensor, want: Tensor, exact: bool, real: torch.dtype, roundings: float = 1, size: float = 0.0
) -> str | None:
    """How two results differ, if they do: in bits, or by more than the tolerance, or in what is no number.

    `size` is the sum of the magnitudes where the tensor is a sum that may cancel.
    """
    if got.shape != want.shape or got.dtype is not want.dtype:
        return f"{got.dtype} {list(got.shape)} for {want.dtype} {list(want.shape)}"
    if not torch.equal(got.isnan(), want.isnan()):
        return f"NaN in {int(got.isnan().sum())} places for {int(want.isnan().sum())}"
    unlike = (got != want) & ~want.isnan()
    if not unlike.any():
        return None
    if exact:
        return f"other bits in {int(unlike.sum())} places"
    known = want.isfinite() & got.isfinite()
    if (unlike & ~known).any():
        return f"infinite in {int(got.isinf().sum())} places for {int(want.isinf().sum())}"
    largest = max(size, want[known].double().abs().max().item())
    if size == math.inf:
        return None
    allowed = (TOLERANCE * torch.finfo(real).eps + roundings * torch.finfo(want.dtype).eps) * largest
    off = (got.double() - want.double())[known].abs().max().item()
    return None if off <= allowed else f"off by {off:.3g} of {largest:.3g}"


def magnitude(form: Form, case: Case, name: str, real: torch.dtype) -> float:
    """The gradient of a field is a sum over neurons: the largest sum of their magnitudes; 0 of what is no field."""
    place, field = ("of_surrogate" if "." in name else "fields"), name.rpartition(".")[2]
    fields = getattr(case, place)
    if field not in fields:
        return 0.0
    if (form.neuron.__name__, field) == ("GatedLIFNode", "beta"):
        return math.inf  # it acts through `drive`, on the gradient of x, which is compared itself
    shape = case.x_seq.shape[1:]
    spread = nn.Parameter(fields[field].detach().to(real).expand(shape).clone())
    changed = case._replace(**{place: fields | {field: spread}})
    found = run(make(form, changed, "torch"), changed)[1][name].double().abs()
    return found.sum_to_size(fields[field].shape).nan_to_num(0.0, 0.0, 0.0).max().item()


def taken_by_auto(form: Form, case: Case) -> bool:
    """Whether 'auto' takes the kernel, which promises the very bits; not where they depend on a layout like this."""
    node = make(form, case, "auto")
    x_seq = started(node, case)["x"]
    return bool(node.implementation(x_seq[0] if case.single and len(x_seq) else x_seq).backend != "torch")


def compared(form: Form, case: Case) -> tuple[str, list[str]]:
    """What became of a configuration ('kernel', 'eager', 'refused'), and how kernel and eager loop differ."""
    try:
        want, wanted = run(make(form, case, "torch"), case)
    except (ValueError, TypeError):
        return "refused", []
    node = make(form, case, "cpp")
    try:
        got, gradients = run(node, case)
    except RuntimeError as error:
        if "cannot run on the backend 'cpp'" not in str(error):
            return "kernel", [f"{type(error).__name__}: {error}"]
        return "eager", []
    forward, backward = (alike and taken_by_auto(form, case) for alike in exactness(node, form.dtype))
    real = torch.float64 if form.dtype is torch.float64 else torch.float32
    found = [f"{name}: {why}" for name in want if (why := differ(got[name], want[name], forward, real))]
    if found and not forward:
        return "inexact forwards", []  # a spike of another step, or what follows from it; 'auto' takes the eager loop
    # Of three gradients that meet, autograd may add the last two first: those of a potential that is kept, or of a
    # spike that is a state as well.
    sums_alike = not case.store_v_seq and "spike" not in form.neuron.State._fields
    exploded = any((held.abs() > torch.finfo(real).eps ** -0.5).any() for held in want.values())
    for name, held in wanted.items():
        alike = backward and sums_alike and (name == "x" or name.startswith("start "))
        narrow = name.startswith("surrogate") and held.element_size() < real.itemsize
        if narrow and not held.isfinite().all():
            continue  # the eager loop adds it up step by step in the dtype of the field, whose range may not hold it
        roundings: float = len(case.x_seq) if narrow else 1
        if not forward:  # the slopes are those of potentials a few units off, which an upstroke (EIF) makes more of
            roundings = max(roundings, UPSTROKE * torch.finfo(real).eps / torch.finfo(held.dtype).eps)
        if not backward:  # a slope that is a few units off multiplies into the gradient at every step
            roundings = max(roundings, len(case.x_seq) * 8 * torch.finfo(real).eps / torch.finfo(held.dtype).eps)
        if exploded and not (name == "x" or name.startswith("start ")):
            continue  # terms as large as the potential cancel in the sum over time, in an order of each's own
        why = differ(gradients[name], held, alike, real, roundings)
        if why and not alike:
            why = differ(gradients[name], held, False, real, roundings, magnitude(form, case, name, real))
        if why:
            found.append(f"gradient of {name}: {why}")
    return "kernel", found


def described(form: Form, case: Case) -> str:
    """A configuration in words."""
    kinds = ", ".join(f"{name}:{kind}" for name, kind in (form.fields | form.of_surrogate).items())
    options = ", ".join(f"{name}={held}" for name, held in form.options.items())
    surrogate = form.surrogate.__name__ if form.surrogate else "no surrogate"
    x = f"{str(form.dtype)[6:]} {list(case.x_seq.shape)} {case.layout}{' with special values' if case.special else ''}"
    mode = f"{'s' if case.single else 'm'}{' store_v_seq' if case.store_v_seq else ''}"
    return f"{form.neuron.__name__}({options}) {surrogate} [{kinds}] x: {x}, state {case.state}, {mode}"


def configuration(seed: int, index: int) -> tuple[Form, Case]:
    """The configuration of a number; the same one at every call."""
    form = draw_form(random.Random(f"form {seed} {index // PER_FORM}"), index // PER_FORM)
    return form, draw_case(form, random.Random(f"case {seed} {index}"))


def sweep(indices: Any, seed: int = 0) -> tuple[dict[str, int], list[str]]:
    """Run configurations; how many became what, and a line for each that failed."""
    counts: dict[str, int] = {}
    failures = []
    for index in indices:
        form, case = configuration(seed, index)
        what, found = compared(form, case)
        counts[what] = counts.get(what, 0) + 1
        if found:
            again = f"python tests/sweeps/fuzz_backends.py --seed {seed} --only {index}"
            failures.append(f"{described(form, case)}: {'; '.join(found)} # {again}")
            print(failures[-1], flush=True)
        if (done := sum(counts.values())) % 1000 == 0:
            print(f"{done} done, {len(failures)} failed", file=sys.stderr, flush=True)
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=10_000, metavar="N", help="how many configurations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run the configuration of this number alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    began = time.monotonic()
    counts, failures = sweep(range(given.n) if given.only is None else [given.only], given.seed)
    shown = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"{sum(counts.values())} configurations: {shown}; {len(failures)} failed; {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

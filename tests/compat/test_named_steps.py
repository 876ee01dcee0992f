"""The functions by which subclasses of published code charge and evaluate are the steps of the neurons."""

import pytest
import torch

from spikescope.neuron import IFNode, KLIFNode, LIAFNode, LIFNode

KINDS = [
    (cls, decays, v_reset)
    for cls in (IFNode, LIFNode, LIAFNode, KLIFNode)
    for decays in ((True, False) if cls is not IFNode else (None,))
    for v_reset in (0.25, None)
]


def drive():
    return 3 * torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(3)) - 0.5


def made(cls, decays, v_reset):
    """The neuron, how its functions are named, and the numbers that they take after `v_threshold`."""
    given = {} if decays is None else {"tau": 1.5, "decay_input": decays}
    if issubclass(cls, LIAFNode):
        given |= {"act": torch.relu, "threshold_related": False}
    node = cls(v_threshold=0.75, v_reset=v_reset, step_mode="m", store_v_seq=True, **given)
    ending = {None: "", True: "_decay_input", False: "_no_decay_input"}[decays]
    fields = [] if v_reset is None else [v_reset]
    return node, ending, (fields if decays is None else [*fields, 1.5])


@pytest.mark.parametrize(("cls", "decays", "v_reset"), [kind for kind in KINDS if kind[0] in (IFNode, LIFNode)])
def test_a_run_by_functions_is_that_of_the_neuron(cls, decays, v_reset):
    node, ending, fields = made(cls, decays, v_reset)
    x_seq, v = drive(), torch.zeros(2, 4) if v_reset is None else torch.full((2, 4), v_reset)
    wanted = node(x_seq)
    reset = "soft" if v_reset is None else "hard"
    spikes, last = getattr(node, f"jit_eval_multi_step_forward_{reset}_reset{ending}")(x_seq, v, 0.75, *fields)
    assert torch.equal(spikes, wanted)
    torch.testing.assert_close(last, node.v)
    *_, course = getattr(cls, f"jit_eval_multi_step_forward_{reset}_reset{ending}_with_v_seq")(x_seq, v, 0.75, *fields)
    torch.testing.assert_close(course, node.v_seq)
    for t, x in enumerate(x_seq):
        spike, v = getattr(cls, f"jit_eval_single_step_forward_{reset}_reset{ending}")(x, v, 0.75, *fields)
        assert torch.equal(spike, wanted[t])
    assert torch.equal(v, last)
    names = [*([] if v_reset is None else ["v_reset"]), *([] if decays is None else ["tau"])]
    by_name = dict(reversed([*zip(names, fields, strict=True)]))
    told = getattr(cls, f"jit_eval_single_step_forward_{reset}_reset{ending}")(x, v, 0.75, **by_name)
    again = getattr(cls, f"jit_eval_single_step_forward_{reset}_reset{ending}")(x, v, 0.75, *fields)
    assert all(map(torch.equal, told, again))


@pytest.mark.parametrize(("cls", "decays", "v_reset"), [kind for kind in KINDS if kind[0] is not IFNode])
def test_a_neuron_that_charges_by_functions_is_the_neuron(cls, decays, v_reset):
    node, ending, _ = made(cls, decays, v_reset)

    class ByFunctions(cls):
        def neuronal_charge(self, x):
            charge = getattr(self, f"neuronal_charge{ending}")
            more = [self.k] if cls is KLIFNode else []
            if self.v_reset is not None or more:
                self.v = charge(x, self.v, self.v_reset or 0.0, self.tau, *more)
            else:
                self.v = getattr(self, f"neuronal_charge{ending}_reset0")(x, self.v, self.tau)

    own = made(ByFunctions, decays, v_reset)[0]
    torch.testing.assert_close(own(drive()), node(drive()))
    torch.testing.assert_close(own.v_seq, node.v_seq)

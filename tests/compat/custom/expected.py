"""Write what the package in the environment gives for the neurons of one's own: `python expected.py > expected.json`.

It stands beside the tests to show where their numbers come from: those of spikingjelly 0.0.0.0.14.
"""

import json

from neurons import kinds, run, surrogates
from spikingjelly.activation_based import base, neuron, surrogate


def told(result):
    return {name: held.contiguous().numpy().tobytes().hex() for name, held in result.items()}


def main():
    made = {name: told(run(make(), "s")) for name, make in kinds(neuron, surrogate, base).items()}
    for name, make in surrogates(surrogate).items():
        made["surrogate " + name] = told(run(neuron.LIFNode(surrogate_function=make(), v_threshold=0.5), "s"))
    print(json.dumps(made, indent=0))


if __name__ == "__main__":
    main()

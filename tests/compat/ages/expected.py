"""Write what the package of an age gives for the cases of that age: `python expected.py 14 > 14.json`.

It stands beside the tests to show where their numbers come from: those of spikingjelly 0.0.0.0.12 and 0.0.0.0.14.
"""

import json
import sys
import warnings

import torch

from cases import AGES, run, scope


def main(age):
    warnings.simplefilter("ignore")
    package, cases = AGES[age]
    names, made = scope(package), {}
    for case, shape in cases:
        torch.manual_seed(0)
        try:
            told = run(case, shape, names)
        except Exception as error:
            print(f"{case}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        made[f"{case} {list(shape)}"] = {
            name: [list(held.shape), [float(f"{v:.7g}") for v in held.float().flatten().tolist()]]
            for name, held in told.items()
        }
    print("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in made.items()) + "\n}")


if __name__ == "__main__":
    main(sys.argv[1])

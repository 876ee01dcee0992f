"""Run the programs of `tests/compat/programs` under SpikingJelly and under spikescope, and compare: `make programs`.

Both run in one process, in turn, on one thread; times are medians. Options: names of programs, `--rounds N`, `--store`
to write the numbers that `tests/compat/test_programs.py` compares with, `--ages DIR` with a folder a version.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests" / "compat" / "programs"
EXPECTED = PROGRAMS / "expected.json"
sys.path.insert(0, str(PROGRAMS))

import runner  # noqa: E402

from spikescope import compat  # noqa: E402

WANDERS = 0.02
"""What a few steps of training make of gradients that a kernel rounds otherwise, relative."""


def timed(name):
    """What a program gives, and the seconds that its `main` took."""
    with runner.one_thread(), runner.warnings.catch_warnings(), runner.imported(name) as program:
        runner.warnings.simplefilter("ignore")
        began = time.perf_counter()
        result = program.main()
        return runner.told(result), time.perf_counter() - began


def beside(name, rounds):
    """The result of the real package, of ours eagerly and of ours as it comes, and the times of the first and last."""
    real, _ = timed(name)
    compat.install(force=True)
    with runner.eager():
        plain, _ = timed(name)
    auto, _ = timed(name)
    times = {"real": [], "here": []}
    for _ in range(rounds):
        times["here"].append(timed(name)[1])
        compat.uninstall()
        times["real"].append(timed(name)[1])
        compat.install(force=True)
    compat.uninstall()
    return {"real": real, "eager": plain, "auto": auto, "times": times}


def in_ranks(name, ranks, *before):
    """The result of a program that runs in several processes, and the seconds it all took."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    began = time.perf_counter()
    command += [*before, str(PROGRAMS / "runner.py"), name]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if ran.returncode:
        raise RuntimeError(f"{name} in {ranks} processes:\n{ran.stderr[-3000:]}")
    return json.loads(ran.stdout.strip().splitlines()[-1]), time.perf_counter() - began


def beside_in_ranks(name, ranks):
    """As `beside`, from processes of their own; their times are mostly their start, and none is given."""
    real, _ = in_ranks(name, ranks)
    here, _ = in_ranks(name, ranks, "-m", "spikescope.compat", "--force")
    return {"real": real, "eager": None, "auto": here, "times": None}


def one_age(age, names, rounds):
    """In a process of the age: print a line of JSON a program."""
    for name in names:
        ranks = runner.said(name, "RANKS")
        try:
            made = beside_in_ranks(name, ranks) if ranks else beside(name, rounds)
        except Exception as error:
            made = {"failed": f"{type(error).__name__}: {error}"}
            compat.uninstall()
        print(json.dumps({"name": name, "age": age, **made}), flush=True)


def process(age, folder, names, rounds):
    """The results of the programs beside one version of the real package."""
    path = os.pathsep.join([str(ROOT / "src"), str(folder)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, "--child", age, "--rounds", str(rounds), *names]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith('{"name"'):
                yield json.loads(line)
    if child.returncode:
        raise SystemExit(f"The process of {age} ended with {child.returncode}.")


def report(row):
    """A line for people; returns whether all is as it should be."""
    name = row["name"]
    if "failed" in row:
        print(f"{name:22} {row['age']:11} FAILED {row['failed']}", flush=True)
        return False
    found = []
    if row["eager"] is not None:
        found += [f"eager {line}" for line in runner.differences(name, row["eager"], row["real"])]
    found += [f"auto {line}" for line in runner.differences(name, row["auto"], row["real"], WANDERS)]
    speed = ""
    if row["times"] is not None:
        middle = {side: statistics.median(held) for side, held in row["times"].items()}
        speed = f"{middle['real']:7.3f} s there {middle['here']:7.3f} s here {middle['real'] / middle['here']:5.2f} x"
    held = "differs" if found else "equal but for what it says" if _exceptions(name) else "equal"
    print(f"{name:22} {row['age']:11} {speed:40} {held}", flush=True)
    for line in found:
        print(f"    {line}", flush=True)
    return not found


def _exceptions(name):
    return {**runner.said(name, "CLOSE", {}), **runner.said(name, "DIFFERS", {})}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="programs; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", action="store_true", help="write the numbers of the real package")
    parser.add_argument("--ages", type=Path, default=ROOT / ".venv-programs" / "ages")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.names or runner.names()
    if given.child:
        one_age(given.child, names, given.rounds)
        return 0
    right, stored = True, json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {"programs": {}}
    for age in sorted({age for name in names for age in runner.said(name, "AGES")}):
        chosen = [name for name in names if age in runner.said(name, "AGES")]
        for row in process(age, given.ages / age, chosen, given.rounds):
            right &= report(row)
            if age == runner.said(row["name"], "AGES")[0] and "real" in row:
                stored["programs"][row["name"]] = row["real"]
    if given.store:
        known = {name: held for name, held in sorted(stored["programs"].items()) if name in runner.names()}
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(held)}" for name, held in known.items())
        EXPECTED.write_text(f'{{"probe": {json.dumps(runner.probe())}, "programs": {{\n{lines}\n}}}}\n')
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Write `docs/guide/names.md`, what became of every public name: `python tests/compat/name_table.py`."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from pathlib import Path

from count_names import status

from spikescope.compat import install
from spikescope.compat.absent import AREAS, area_of
from spikescope.compat.aliases import OTHER_PACKAGES
from spikescope.compat.catalogue import catalogue
from spikescope.compat.sources import home

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "names.md"
CHINESE = GUIDE.with_suffix(".zh.md")
WORDS = Path(__file__).with_name("names.zh.toml")
AGES = {"4": "0.0.0.0.4", "12": "0.0.0.0.12", "14": "0.0.0.0.14", "2": "2.0.0"}
OTHERWISE = {
    "reset_net": "reaches modules that were added later",
    "set_step_mode": "all or nothing",
    "delay": "always as long as its input",
    "Delay": "the same in both step modes, across calls",
    "scale_fused_conv2d_weight_of_convbn2d": "the equivalent weight, exactly",
    "fptt_online_training_init_w_ra": "copies",
    "ottt_online_training": "takes a plain last layer",
    "kernel_dot_product": "distances are never below 0",
    "float_spike_to_bool": "padding 0, not 8, of whole bytes",
    "Monitor": "always current",
    "GPUMonitor": "goes on without a GPU",
    "LogTailedReLU": "its primitive is a number below 0, too",
    "SpikingLSTM": "gives the last states of all layers",
    "SpikingGRU": "gives the last states of all layers",
    "SpikingVanillaRNN": "gives the last states of all layers",
    "DispatchCounterMode": "a neuron runs in its eager loop, whose operations are ours",
    "FlopCounter": "the weight gradient of grouped convolutions by its size",
    "MemoryAccessCounter": "reads the indices of a max pool backwards",
    "SimpleEnergyProfiler": "does not count its own sums",
    "estimate_simple_energy": "does not count its own sums",
    "integrate_events_segment_to_frame": "all events where no end is given",
    "fuse_conv_bn_eval_modules": "a copy of the network, not a graph",
    "RateCodingRecipe": "a max pool of spikes follows the largest sum",
    "PiecewiseLeakyReLU": "with the slope of 0.0.0.0.14, $1/w$",
}
"""Names that run, but not quite as there, with what is otherwise; `moving.md` has the topics that concern all."""

PARTS_OF_DATASETS = {f"datasets.{name}" for name in ("cifar10_dvs", "es_imagenet", "shd", "speechcommands")}

HEAD = """# Every public name of SpikingJelly

Written by `python tests/compat/name_table.py` from the sources of four releases; a test keeps it true. *Runs*: under
the import aliases, with the arguments and numbers of the last release that had the path. *Otherwise*: it runs, and
differs as said. *Not*: it can be imported, and says in words what to use when it is used. [Moving](moving.md) has what
concerns all.
"""


def what_became(module: str, name: str) -> str:
    """'runs', 'otherwise' or 'not'."""
    dotted = ".".join(part for part in ("spikingjelly", module, name) if part)
    if status(dotted) != "here":
        return "not"
    return "otherwise" if name in OTHERWISE else "runs"


def group_of(module: str, name: str) -> str:
    """The heading under which a name stands: the alias that gives it, or the part that is not here.

    What the modules of data sets have stands under the package where that has it too, here or in a release.
    """
    heading = area_of(module) or home(module) or module
    if heading not in PARTS_OF_DATASETS:
        return heading
    handed_on = name in catalogue()["datasets"].names or what_became("datasets", name) != "not"
    return "datasets" if handed_on else heading


def gathered() -> dict[str, dict[str, tuple[set[str], str]]]:
    """To each heading its names, with the ages that had them and what became of them."""
    install(force=True)
    groups: dict[str, dict[str, tuple[set[str], str]]] = defaultdict(dict)
    for module, entry in catalogue().items():
        for name, ages in entry.names.items():
            if name in OTHER_PACKAGES:
                continue
            group = groups[group_of(module, name)]
            before, became = group.get(name, (set(), "not"))
            now = what_became(module, name)
            group[name] = (before | set(ages.split()), became if now == "not" else now)
    return dict(sorted(groups.items()))


def ages_of(ages: set[str]) -> str:
    return ", ".join(AGES[age] for age in AGES if age in ages)


def counted(groups: dict[str, dict[str, tuple[set[str], str]]]) -> list[str]:
    """A row for each release."""
    lines = ["| release | names | run | run otherwise | not |", "|---|---|---|---|---|"]
    for age, release in AGES.items():
        held = Counter(became for names in groups.values() for ages, became in names.values() if age in ages)
        lines.append(f"| {release} | {held.total()} | {held['runs']} | {held['otherwise']} | {held['not']} |")
    parts = {group: names for group, names in groups.items() if group in AREAS}
    programs = sum(len(names) for group, names in parts.items() if group.endswith("examples"))
    whole = sum(map(len, parts.values()))
    lines += ["", f"Of those that are not here, {programs} are of example programs, {whole - programs} of whole parts."]
    return lines


def section(group: str, names: dict[str, tuple[set[str], str]]) -> list[str]:
    """The names of one alias, those of the same ages together."""
    lines = [f"\n### {group or 'spikingjelly'}\n"]
    for became, words in (("runs", "runs"), ("otherwise", "otherwise"), ("not", "not")):
        by_ages: dict[str, list[str]] = defaultdict(list)
        for name, (ages, now) in sorted(names.items()):
            if now == became:
                told = f"`{name}`" + (f" ({OTHERWISE[name]})" if now == "otherwise" else "")
                by_ages[ages_of(ages)].append(told)
        lines += [f"- {words}, {ages}: {', '.join(held)}" for ages, held in sorted(by_ages.items())]
    return lines


def table() -> str:
    """The whole text."""
    groups = gathered()
    lines = [HEAD, *counted(groups), "\n## Parts that are here"]
    for group, names in groups.items():
        if group not in AREAS and names:
            lines += section(group, names)
    lines += ["\n## Parts that are not here\n", "| part | names | what to use |", "|---|---|---|"]
    lines += [f"| `{area}` | {len(groups.get(area, ()))} | {why} |" for area, why in sorted(AREAS.items())]
    return "\n".join(lines) + "\n"


def in_chinese(text: str) -> str:
    """The table for readers of Chinese."""
    for pair in tomllib.loads(WORDS.read_text())["words"]:
        words = HEAD if pair["of"] == "head" else pair["of"]
        assert words in text, f"no {words!r} in the table"
        text = text.replace(words, pair["zh"])
    return text


if __name__ == "__main__":
    GUIDE.write_text(table())
    CHINESE.write_text(in_chinese(table()))
    print(f"{GUIDE.name}: {len(GUIDE.read_text().splitlines())} lines")

"""The settings of that package, as a script reads and changes them. Two of them mean something here.

`max_threads_number_for_datasets_preprocess` is how many processes convert a data set, and `save_datasets_compressed`
whether its files are compressed. The others steer kernels written by hand, which are not here.
"""

from __future__ import annotations

import os
from typing import Any

from .ages.made import say_once

__all__ = [
    "cuda_compiler_backend",
    "cuda_compiler_options",
    "cuda_threads",
    "max_threads_number_for_datasets_preprocess",
    "save_bool_spike_level",
    "save_datasets_compressed",
    "save_spike_as_bool_in_neuron_kernel",
    "triton_neuron_kernel_static_range_max_T",
]

max_threads_number_for_datasets_preprocess = 16
save_datasets_compressed = True

cuda_threads = 512
cuda_compiler_options = ("-use_fast_math",)
cuda_compiler_backend = "nvrtc"
save_spike_as_bool_in_neuron_kernel = False
save_bool_spike_level = 0
triton_neuron_kernel_static_range_max_T = 32

_VARIABLES = {
    "max_threads_number_for_datasets_preprocess": "SPIKESCOPE_DATASET_WORKERS",
    "save_datasets_compressed": "SPIKESCOPE_DATASET_COMPRESSED",
}


def assigned(name: str, given: Any) -> None:
    """What follows where a script assigns a setting: the variable by which `datasets` is told, or a note."""
    if name in _VARIABLES:
        os.environ[_VARIABLES[name]] = str(int(given))
    elif name in __all__:
        say_once(name, f"configure.{name} steers kernels written by hand, which are not here; it does nothing.")

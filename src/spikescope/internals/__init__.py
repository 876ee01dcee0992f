"""The private calls of PyTorch that the library relies on, each in one place with its reason."""

import torch

from .versions import check_version

check_version(torch.__version__)  # before the first of them is looked for

from .allocations import *  # noqa: E402
from .compiler import *  # noqa: E402
from .engine import *  # noqa: E402
from .modes import *  # noqa: E402
from .modules import *  # noqa: E402
from .tensors import *  # noqa: E402

"""What is done to a whole network, and functions of sequences."""

from ..errors import explain_absent as _explain_absent
from ..layer.norm import convert_sync_batchnorm as convert_sync_batchnorm
from .checkpoint import *
from .coding import *
from .distance import *
from .forward import *
from .fusion import *
from .init import *
from .loss import *
from .memory import *
from .network import *
from .network_fusion import *
from .norm_fusion import *
from .online import *
from .regularization import *
from .samples import *
from .spike_loss import *
from .stream import *

_explain_absent(__name__)

"""Networks of the literature: `create(name)`, `list_models(pattern)`, and each by its own function."""

from ..errors import explain_absent as _explain_absent
from .inspection import *
from .masnn import *
from .maxformer import *
from .ms_resnet import *
from .parametric_lif_net import *
from .published import *
from .qkformer import *
from .sew_resnet import *
from .snas_net import *
from .spike_driven_transformer import *
from .spikformer import *
from .spiking_resnet import *
from .spiking_vgg import *
from .spiking_vggws_ottt import *
from .table import *

_explain_absent(__name__)

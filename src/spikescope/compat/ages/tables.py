"""Tables that published code reads: the convolutions of VGGs by their letters, and where weights without spikes are."""

from __future__ import annotations

from ...models.resnet import WEIGHT_FILES
from ...models.spiking_vgg import CONFIGURATIONS, FILES
from ...models.spiking_vggws_ottt import SMALL

_FROM = "https://download.pytorch.org/models/"

VGG: dict[str, list[int | str]] = {
    letter: list(CONFIGURATIONS[name])
    for letter, name in (("A", "vgg11"), ("B", "vgg13"), ("D", "vgg16"), ("E", "vgg19"))
}
VGG_OF_OTTT: dict[str, list[int | str]] = {**{letter: list(held) for letter, held in VGG.items()}, "S": list(SMALL)}
VGG_FILES = {arch: _FROM + file for arch, file in FILES.items()}
RESNET_FILES = {arch: _FROM + file for arch, file in WEIGHT_FILES.items()}
"""Nothing here loads them: `torch.hub.load_state_dict_from_url`, or a browser, does."""

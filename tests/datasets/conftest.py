import pytest
from recordings import OFFLINE

from spikescope.datasets.formats import aedat3
from spikescope.datasets.frames import counting


@pytest.fixture(scope="module", params=["loop", "numpy"])
def ways(request):
    """The compiled loops however few events there are, and what stands in for them where there is no compiler."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (counting, aedat3):
            patch.setattr(module, "SMALL", 0)
            if request.param == "numpy":
                patch.setattr(module, "_kernel", lambda: None)
            else:
                assert module._kernel() is not None
        yield request.param


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("there is no network in a test")

    monkeypatch.setattr(OFFLINE, refuse)

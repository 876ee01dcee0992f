"""The front of the live view: `with spikescope.live(net) as view:`."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor, nn

from ...background import BackgroundThread
from ...errors import check_listening, check_module, check_whole
from ...files import OutputError, write_whole
from ...monitor.probe.single import GradScale
from ...recording.budget import Budget
from ...recording.budget import budget as as_budget
from ...warn import warn
from ..document import Document
from ..options import check_title, place_of
from ..page import page
from .access import Doors
from .feed import Feed
from .hub import Hub
from .server import Server
from .show import Show, Source

__all__ = ["Live", "View", "live"]


def live(
    net: nn.Module,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    allow_remote: bool = False,
    keep: int = 32,
    budget: Budget | int | str = "64 MB",
    report: str | os.PathLike[str] | None = None,
    title: str = "",
    evaluation: bool = False,
    scaler: GradScale | None = None,
    quiet: bool = False,
) -> Live:
    """Show what a network does while it is trained, in a browser: the address is printed, and stands in `view.url`.

    A step is looked at up to ten times a second, and so rarely that keeping and drawing take a hundredth of the time at
    most. What a client does, or does not, changes nothing of the training.

    - `port`: None takes a free one. On another machine: `ssh -L 8000:127.0.0.1:PORT machine`, then the address with
      8000. `allow_remote`: lets other machines ask at all; then `host` may be another than this machine's loopback.
    - `keep`, `budget`: how many of the steps that were looked at can be looked at again, and the bytes for them.
    - `report`: a file for the page as it is at the end. `evaluation`: look at evaluation too.

    >>> net = nn.Sequential(nn.Linear(2, 3), spikescope.neuron.IFNode(step_mode="m"))
    >>> with live(net, quiet=True) as view:
    ...     for step in range(2):
    ...         _ = net(torch.ones(4, 1, 2))
    ...         spikescope.functional.reset_net(net)
    ...     [layer["name"] for layer in view.document()["layers"]]
    ['0', '1']
    """
    check_module("live", net)
    keep = check_whole("live", "keep", keep)
    check_title("live", title)
    place = None if report is None else place_of("live", report)
    feed = Feed(net, keep + 1, as_budget(budget).bytes, evaluation, scaler, title)
    try:
        return Live(feed, port, host, allow_remote, place, quiet)
    except BaseException:
        feed.steps.close()
        raise


class View:
    """A source that is shown in a browser until `close()`. `url` is its address, with the token that lets one in."""

    def __init__(self, source: Source, port: int | None, host: str, allow_remote: bool, quiet: bool) -> None:
        _check_address(port, host, allow_remote)
        self._doors, self._hub = Doors(allow_remote), Hub()
        self._show = Show(source, self._hub)
        try:
            self._server = Server(host, port or 0, self._doors, self._hub, self._show)
        except BaseException:
            self._show.close()
            raise
        self._thread = BackgroundThread(
            target=self._server.serve_forever, args=(0.1,), name="spikescope live server", daemon=True
        )
        self._thread.start()
        self.port = int(self._server.server_address[1])
        named = f"[{host}]" if ":" in host else host
        self.url = f"http://{named}:{self.port}/?token={self._doors.token}"
        if allow_remote:
            warn(f"The live view can be read from other machines by whoever has its address: {host}, port {self.port}.")
        if not quiet:
            print(f"Live view: {self.url}", file=sys.stderr, flush=True)

    @property
    def clients(self) -> int:
        """How many look."""
        return len(self._hub)

    @property
    def dropped(self) -> int:
        """Messages that a client was too slow for."""
        return self._hub.dropped

    @property
    def sent(self) -> int:
        """Bytes that went out to clients that look."""
        return self._hub.sent

    @property
    def error(self) -> Exception | None:
        """What ended the view before its time."""
        return self._show.error

    def end(self, report: str = "") -> None:
        """Send clients the last page, and close the door; a second time does nothing."""
        self._show.close(report)
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(1.0)
        self._server.server_close()

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.url}" title="Live view" width="100%" height="700"></iframe>'


class Live(View):
    """What `live` gives; it looks until `close()`, or while the `with` block runs."""

    def __init__(
        self, feed: Feed, port: int | None, host: str, allow_remote: bool, report: Path | None, quiet: bool
    ) -> None:
        self._feed, self._file = feed, report
        super().__init__(feed, port, host, allow_remote, quiet)

    def loss(self, loss: Tensor | float) -> None:
        """Tell the loss of this step, for its course."""
        self._feed.loss(loss)

    @property
    def milliseconds(self) -> float:
        """What it has cost so far, in the thread of the training."""
        return self._feed.steps.milliseconds

    def document(self) -> Document:
        """All that the page shows of the steps that are over, as plain values."""
        self._feed.look()
        found = self._feed.document()
        assert found is not None  # of no number, there always is one
        return found

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page as it is now to a file."""
        write_whole(path, page([self.document()]), sync=False)
        return Path(path)

    def close(self) -> None:
        """Stop looking, and let the page become a report; a second time does nothing."""
        if self._feed.steps.closed:
            return
        self._feed.steps.finish()
        self._feed.steps.members.close("live")
        self._feed.steps.close()
        found = page([self.document()])
        self.end(found)
        if self._file is not None:
            try:
                write_whole(self._file, found, sync=False)
            except OutputError as error:
                warn(f"The report of the live view was not written: {error}")

    def __enter__(self) -> Self:
        check_listening("live", not self._feed.steps.closed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._feed.steps.closed else f"{self.clients} look"
        return f"Live({self.url}, {state})"


def _check_address(port: int | None, host: str, allow_remote: bool) -> None:
    if port is not None and not (isinstance(port, int) and not isinstance(port, bool) and 0 <= port < 1 << 16):
        raise ValueError(f"live: port is a number below 65536, or None for a free one, but got {port!r}.")
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(
            f"live: host is the address of this machine in numbers, as '127.0.0.1', but got {host!r}."
        ) from None
    if not here and not allow_remote:
        raise ValueError(
            f"live: {host} can be reached from other machines, and whoever reads along sees the token and the network. "
            "Forward the port (ssh -L 8000:127.0.0.1:PORT machine), or give allow_remote=True if that is meant."
        )

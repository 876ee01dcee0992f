"""Access to a live view: what a request has to look like. A web page that guesses the port gets nothing."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

__all__ = ["Doors", "Refusal"]

LONGEST = 2048
"""Characters of an address."""


class Refusal(NamedTuple):
    """Why a request is not answered: a status of HTTP and words."""

    status: int
    words: str


class Doors:
    """Decides by the address, the method and the heads of a request.

    - `token`: 128 bits by chance, which are in the address that is printed.
    - `remote`: whether other machines may ask, by the address of this one as a number or by its name.

    A forwarded port (`ssh -L`) may have any number, so that of `Host` is not looked at: a page of another name, which
    was made to lead here, is refused by its name.

    >>> doors = Doors()
    >>> doors.refusal("GET", "/", {"Host": "evil.example"}).status
    403
    >>> doors.refusal("GET", f"/?token={doors.token}", {"Host": "localhost:8000"}) is None
    True
    """

    def __init__(self, remote: bool = False) -> None:
        self.token = secrets.token_hex(16)
        self.remote = remote

    def refusal(self, method: str, target: str, heads: Mapping[str, str]) -> Refusal | None:
        """Why not; None lets it in."""
        if method not in ("GET", "HEAD"):
            return Refusal(405, "This view is read: GET and HEAD alone.")
        if not self._is_here(heads.get("Host")):
            return Refusal(403, "Ask by the address that was printed: 127.0.0.1 or localhost.")
        origin = heads.get("Origin")
        if origin is not None and not self._is_origin(origin):
            return Refusal(403, "A page from elsewhere may not read this.")
        if len(target) > LONGEST:
            return Refusal(414, "The address is too long.")
        if not self._knows(target):
            return Refusal(403, "The token of the printed address is missing or wrong.")
        return None

    def _is_here(self, host: str | None) -> bool:
        """Whether a `Host` names this machine, with or without a port."""
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?", host or "")
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        if name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return self.remote and name in {socket.gethostname().lower(), socket.getfqdn().lower()}
        return self.remote or str(address) in ("127.0.0.1", "::1")

    def _is_origin(self, origin: str) -> bool:
        scheme, sign, host = origin.partition("://")
        return scheme in ("http", "https") and bool(sign) and self._is_here(host)

    def _knows(self, target: str) -> bool:
        """Whether an address has the token, once; told in a time that does not depend on how much of it is right."""
        try:
            given = parse_qs(urlsplit(target).query, max_num_fields=8).get("token", [])
        except ValueError:
            return False
        held = given[0] if len(given) == 1 else ""
        return hmac.compare_digest(held.encode(), self.token.encode())

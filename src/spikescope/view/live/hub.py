"""What goes to the clients: to each a short queue, of which the oldest is dropped where a client does not keep up."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Client", "Hub"]

WAITING = 4
"""Messages that wait for a client."""
MOST = 64
"""Clients at a time."""


class Client:
    """A queue of messages."""

    def __init__(self, state: threading.Condition) -> None:
        self._state = state
        self._waiting: deque[bytes] = deque()
        self.dropped = 0
        self.ended = False

    def put(self, message: bytes) -> None:
        """Add a message; never waits. The hub holds the lock."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)

    def get(self, patience: float) -> bytes | None:
        """The next message; None where none came in time, or no more will."""
        with self._state:
            if not self._waiting and not self.ended:
                self._state.wait(patience)
            return self._waiting.popleft() if self._waiting else None

    @property
    def done(self) -> bool:
        """Whether it has all there will be."""
        with self._state:
            return self.ended and not self._waiting


class Hub:
    """The clients. `sent` counts the bytes that went into queues, `dropped` the messages that went out of them."""

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._clients: set[Client] = set()
        self._ended = False
        self._gone = 0
        self.sent = 0

    def join(self) -> Client | None:
        """A new client; None where there are too many, or the view has ended."""
        with self._state:
            if len(self._clients) >= MOST or self._ended:
                return None
            client = Client(self._state)
            self._clients.add(client)
            self._state.notify_all()
            return client

    def leave(self, client: Client) -> None:
        """A client has gone."""
        with self._state:
            self._clients.discard(client)
            self._gone += client.dropped
            self._state.notify_all()

    def publish(self, message: bytes) -> None:
        """Have a message go to all clients."""
        with self._state:
            for client in self._clients:
                client.put(message)
                self.sent += len(message)
            self._state.notify_all()

    def end(self, message: bytes, patience: float) -> None:
        """Send the last message, and give the clients so many seconds to take it."""
        self.publish(message)
        with self._state:
            self._ended = True
            for client in self._clients:
                client.ended = True
            self._state.notify_all()
            self._state.wait_for(lambda: not self._clients, patience)

    def wait(self, patience: float) -> bool:
        """Whether anybody is there, or comes in this time."""
        with self._state:
            return bool(self._clients) or self._state.wait_for(lambda: bool(self._clients) or self._ended, patience)

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def dropped(self) -> int:
        """Messages that were dropped."""
        with self._state:
            return self._gone + sum(client.dropped for client in self._clients)

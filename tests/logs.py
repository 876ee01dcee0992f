"""What is logged during a test, under the names of pytest's own `caplog`.

The plugin that pytest has for it works at the setup, the call and the teardown of every test, and takes longer than
many of these; this one works where a test asks for it.
"""

import logging
from contextlib import contextmanager


class Caught(logging.Handler):
    """The records that come to the root, in their order."""

    def __init__(self):
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.records, self._texts = [], []

    def emit(self, record):
        """A record that cannot be formatted is an error of who wrote it, and comes out there."""
        self._texts.append(self.format(record))
        self.records.append(record)

    @property
    def messages(self):
        return [record.getMessage() for record in self.records]

    @property
    def text(self):
        return "".join(f"{text}\n" for text in self._texts)

    def clear(self):
        self.records.clear()
        self._texts.clear()

    @contextmanager
    def at_level(self, level, name=None):
        """Meanwhile a logger, or the root, lets through what is of a level and above."""
        logger = logging.getLogger(name)
        before = logger.level
        logger.setLevel(level)
        try:
            yield
        finally:
            logger.setLevel(before)

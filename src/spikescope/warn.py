"""Warnings that come up while a network runs."""

from __future__ import annotations

import logging
import warnings

__all__ = ["warn"]

logger = logging.getLogger("spikescope")


def warn(text: str, stacklevel: int = 3) -> None:
    """Warn; where the user's filters make exceptions of warnings, log it: it must not kill the training step."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)
    except RuntimeWarning:
        logger.error(text)

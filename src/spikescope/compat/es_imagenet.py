"""The function by which ES-ImageNet's samples are read, apart from its class."""

from __future__ import annotations

from ..datasets.es_imagenet import ESImageNet

__all__ = ["load_events"]

load_events = ESImageNet.load_events_np

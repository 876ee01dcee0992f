"""Choosing what to look at: which modules, which signal, which neurons, samples and steps of it."""

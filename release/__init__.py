"""Releases: `python -m release check` says what speaks against one, `python -m release dist` builds and proves one."""

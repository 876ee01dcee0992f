"""The documentation site: `python -m website` builds it into build/site, English at its root and Chinese in zh."""

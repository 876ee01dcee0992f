"""The words of the made pages in both languages, of words.toml."""

import tomllib
from pathlib import Path

WORDS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def say(key: str, language: str) -> str:
    """The words for a key in a language."""
    return str(WORDS[key][language])

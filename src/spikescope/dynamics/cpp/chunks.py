"""Going through the neurons of a block in chunks."""

from __future__ import annotations

__all__ = ["CHUNK", "SUMS", "chunk_constant", "in_chunks"]

CHUNK = 64
"""Neurons of a block that a kernel takes at a time, each time fetching for as many: where it fetches for a whole block
at once, a processor with AVX2 runs out of places for what is on its way, and takes up to a quarter longer. Backwards it
does so from `caches.far_from()` bytes on: of what is in a cache, shorter loops take a tenth longer."""

SUMS = 5
"""Sums over all neurons up to which it does so: of more, adding them up for each chunk takes longer than it saves."""


def chunk_constant(whole: bool) -> str:
    """The constant CHUNK: a whole block with AVX-512, and where it has to be."""
    if whole:
        return "constexpr long CHUNK = B;"
    return f"""#ifdef __AVX512F__
constexpr long CHUNK = B;
#else
constexpr long CHUNK = {CHUNK};
#endif"""


def in_chunks(text: str, where: str = "") -> str:
    """What is done for the neurons from `c` to `end`, a chunk at a time `where` that is worth it, at a depth of 6.

    The rest stands apart, for loops of a length that is known are faster.
    """
    return f"""long c = 0;
      for (; {where}c + CHUNK <= e; c += CHUNK) {{
        const long end = c + CHUNK;
        {text}
      }}
      if (c < e) {{
        const long end = e;
        {text}
      }}"""

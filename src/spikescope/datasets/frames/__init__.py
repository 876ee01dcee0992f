"""From events to frames: where a frame begins and ends, and what it counts."""

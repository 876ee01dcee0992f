"""The documented recorders, by the names of SpikingJelly, and the base of monitors of one's own."""

"""The flight recorder: the last steps of a training, written down when something goes wrong."""

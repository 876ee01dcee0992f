"""The first minutes on a GPU: tests, benchmark rows, a training step. See `python -m bench.gpu`."""

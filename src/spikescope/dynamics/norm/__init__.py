"""A batch normalisation and the neuron after it as one run."""

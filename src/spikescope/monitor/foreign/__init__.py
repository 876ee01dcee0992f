"""Neurons of other libraries, and of the user: what a monitor must know of them, a class a library."""

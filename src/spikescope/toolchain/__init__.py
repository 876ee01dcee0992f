"""From C++ text to a library that this process may run: compiled by the system's compiler, kept safely on disk."""

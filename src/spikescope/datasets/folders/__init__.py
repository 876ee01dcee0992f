"""A data set as folders: fetched, unpacked, converted and integrated, each once, and looked through by `check`."""

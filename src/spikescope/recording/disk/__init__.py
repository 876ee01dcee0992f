"""A recording on disk: how it is written and read again, from the tiles of a run to the folder."""

"""One file a group of rows; each has `rows(options)`."""

"""One page that shows what went on inside a network."""

"""The causes of what goes wrong, a file a family; each is registered where it is judged."""

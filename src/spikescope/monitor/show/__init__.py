"""How results are shown: as plain values and text, pictures, and files that grow."""

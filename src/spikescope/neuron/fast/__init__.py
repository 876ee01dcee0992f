"""Faster calls: one like an earlier one, one after a batch normalisation, those of a row of small modules, the end of a
step that begins with a hook.
"""

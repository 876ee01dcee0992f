"""The programs import a package that need not be installed: `test_programs.py` runs them, under its aliases."""

collect_ignore_glob = ["*.py"]

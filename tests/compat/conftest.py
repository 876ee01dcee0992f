"""Programs beside the tests that run under the package of an age, and are no modules for pytest."""

collect_ignore_glob = ["ages/*.py", "custom/*.py", "programs/*.py"]

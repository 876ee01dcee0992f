"""Programs beside the tests that run under the package of an age, and are no modules for pytest."""

collect_ignore = ["custom/expected.py", "ages/expected.py"]

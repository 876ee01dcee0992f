"""The first program of the README runs as it stands."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_first_program_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.startswith("Plan(backend='")


def test_every_picture_and_page_is_there():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target


def test_every_command_can_be_pasted():
    for command in re.findall(r"`([^`]*)`", README):
        assert not re.search(r"<[a-z ]+>", command), command

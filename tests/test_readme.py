"""The first program of the README runs as it stands."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_first_program_prints_what_is_shown(capsys):
    (code,), (shown,) = (re.findall(rf"```{kind}\n(.*?)```", README, flags=re.DOTALL) for kind in ("python", "text"))
    exec(code, {})
    printed, wanted = (re.sub(r"[\d.]+(e-\d+)?", "0", text).split() for text in (capsys.readouterr().out, shown))
    assert printed == wanted  # but for the numbers


def test_every_picture_and_page_is_there():
    headings = {f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert target in headings or (Path(__file__).parents[1] / target).exists(), target


def test_every_command_can_be_pasted():
    for command in re.findall(r"`([^`]*)`", README):
        assert not re.search(r"<[a-z ]+>", command), command

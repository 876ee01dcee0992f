"""The live view in a browser: it fills, holds, goes back, ends as a file, and asks nobody but its own server."""

import time

from live_cases import every_step, make, train

import spikescope
from browser import browser, needed
from spikescope.view.page.sections import SECTIONS

pytestmark = needed
__all__ = ["browser", "every_step"]

BACK = """
(() => {
  const slider = document.querySelector('#live input');
  slider.value = 0;
  slider.dispatchEvent(new Event('input'));
})()
"""
"""Go to the first step that is kept."""


def wait(browser, words, view=None, net=None, seconds=20):
    """Train on until an expression of the page is true."""
    end = time.monotonic() + seconds
    while not browser.ask(words):
        assert time.monotonic() < end, words
        if view is not None:
            train(net, 1, view)


def test_the_page_goes_on_with_the_training_and_stays_when_that_ends(browser, every_step):
    net = make()
    with spikescope.live(net, quiet=True, title="A <i>net</i>") as view:
        browser.open(view.url)
        assert browser.ask("document.querySelector('h1').textContent") == "A <i>net</i>"
        wait(browser, "document.querySelectorAll('#rasters .plot').length === 2", view, net)
        order = browser.ask("[...document.querySelectorAll('main > section')].map((held) => held.id)")
        assert order.index("map") < order.index("rasters") < order.index("layers")
        links = browser.ask("[...document.querySelectorAll('header nav a')].map((held) => held.textContent)")
        assert links == [SECTIONS[name][0] for name in order]  # in the words that a page begins with
        browser.click("#live button")
        wait(browser, "document.querySelector('#live').textContent.includes('Go on')")
        browser.ask(BACK)
        wait(browser, "/step \\d+$/.test(document.querySelectorAll('#live .note')[1].textContent)")
        held = browser.ask("document.querySelector('#rasters').textContent")
        train(net, 5, view)
        assert browser.ask("document.querySelector('#rasters').textContent") == held
    wait(browser, "document.querySelector('#live b').textContent === 'Ended'")
    assert browser.ask("!document.querySelectorAll('#live button')[1].hidden")
    assert browser.ask("document.querySelector('footer').textContent").startswith("Made by spikescope")
    assert not browser.complaints
    assert all(asked.startswith(f"http://127.0.0.1:{view.port}/") for asked in browser.requests)

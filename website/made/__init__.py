"""Pages that are made from the running package."""

from collections.abc import Mapping

from . import api, bench, gallery, tables


def pages(language: str) -> Mapping[str, str]:
    """The made pages of a language, by their place on the site."""
    tables.load()
    up = "../../" if language == "en" else "../../../"
    made = {
        "index": api.index(language),
        "neurons": gallery.neurons(language),
        "surrogates": gallery.surrogates(language),
        "reducers": tables.reducers(language),
        "findings": tables.findings(language),
        "measures": tables.measures(language),
        "exports": tables.exports(language),
        "backends": tables.backends(language),
        "benchmarks": bench.benchmarks(language),
    }
    made |= {f"api/{room}": api.page(room, language, up) for room in api.rooms()}
    return {f"reference/{name}.md": text for name, text in made.items()}

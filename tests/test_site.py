"""`make html`: all pages built, every link followed, six of them looked at in a browser, narrow and wide."""
from pathlib import Path

import pytest

from adq.webpage import build_site

root = Path(__file__).parents[1]
looked_at = ("nbs/index", "nbs/method/02_bins", "nbs/method/05_sampling", "nbs/foundations/06_networks",
             "paper_figures/laptop/table3", "paper_figures/narrow/evidence")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")/"site"
    assert build_site(root, out) > 50 # raises where a link leads nowhere
    return out


@pytest.mark.parametrize("name", looked_at)
def test_in_a_browser(name, site, tab):
    for width in (400, 1600):
        tab.set_viewport_size(dict(width=width, height=800))
        tab.goto((site/f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        shown = "i.closest('.output_subarea') || i" if width < 600 else "i" # narrow: figures in boxes that scroll
        assert tab.evaluate(f"[...document.images].every(i => ({shown}).getBoundingClientRect().right <= innerWidth)")


def test_sliders_move_the_bars(site, tab):
    tab.goto((site/"nbs"/"method"/"05_sampling.html").as_uri())
    seen = []
    for alpha in 0, 10:
        tab.locator("input[type=range]").nth(2).fill(str(alpha))
        seen.append((tab.inner_text("p.title"), tab.locator(".bar").first.get_attribute("style")))
    assert seen[0][0].startswith("0.0% of 5,000 images moved") and not seen[1][0].startswith("0.0%")
    assert "height: 50%" in seen[0][1] and "height: 50%" not in seen[1][1]

"""The site, built as its workflow builds it from what is committed: every link within it leads somewhere."""

import json
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from lab.record import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Every page of the site, by its path; the front page is the first."""
    pytest.importorskip("myst_nb", reason="the site is not built here: pip install -r site/requirements.txt")
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", ROOT / "site", ROOT, site]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    paths = [site / "index.html", *sorted(site.rglob("*.html"))]
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths}


def test_every_link_within_the_site_leads_somewhere(pages):
    for path, page in pages.items():
        for tag in page.select("[href], [src]"):
            address = urlsplit(tag.get("href") or tag.get("src"))
            if address.scheme or address.netloc or tag.name == "use":   # elsewhere; an icon
                continue
            goal = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert goal.is_file(), f"{path}: {tag} leads nowhere"
            if address.fragment and goal in pages:
                assert pages[goal].find(id=unquote(address.fragment)), f"{path}: {tag} leads to no such place"


def test_the_front_page_leads_to_every_notebook_whose_pictures_are_described(pages):
    front = next(iter(pages))
    links = {tag["href"] for tag in pages[front].select("article a[href]")}
    assert "page/index.html" in links, "README's link to the page to draw on: site/conf.py, `lead`"
    for source in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{source.stem}.html" in links, "README has no link to it"
        described = [picture["alt"] for cell in json.loads(source.read_text("utf-8"))["cells"]
                     for output in cell.get("outputs", []) for picture in output.get("metadata", {}).values()]
        page = pages[front.parent / "notebooks" / f"{source.stem}.html"]
        assert described == [image["alt"] for image in page.select(".cell_output img")], "conf.py, `complete`"

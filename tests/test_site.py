"""The site: built as its workflow builds it, from what is committed; every link within it leads somewhere."""

import json
import shutil
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from lab import text
from lab.records import ROOT

pytest.importorskip("myst_nb", reason="the site is not built here: pip install -r site/requirements.txt")
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def build(source, target):
    """Build the site of the folder `source`; return the finished process."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", ROOT / "site", source, target]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def pages(site):
    """Every page of the site, by its path."""
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in site.rglob("*.html")}


def test_every_notebook_is_a_page_with_its_outputs(pages, site):
    for name in NOTEBOOKS:
        page = pages[site / "notebooks" / f"{name}.html"]
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
        described = [picture["alt"] for cell in notebook["cells"] for output in cell.get("outputs", [])
                     for picture in output.get("metadata", {}).values()]
        assert described == [image["alt"] for image in page.select(".cell_output img")]
        assert "by the record: " in page.get_text()


def test_every_link_within_the_site_leads_somewhere(pages, site):
    checked = 0
    for path, page in pages.items():
        for tag in page.select("[href], [src]"):
            address = urlsplit(tag.get("href") or tag.get("src"))
            if address.scheme or address.netloc or (tag.name, address.path) == ("use", ""):
                continue
            goal = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert goal.is_file(), f"{path.relative_to(site)}: {tag}"
            if address.fragment and goal in pages and not address.fragment.startswith("svg-"):
                assert pages[goal].find(id=unquote(address.fragment)), f"{path.relative_to(site)}: {tag}"
            checked += 1
    assert checked > 500


def test_the_front_page_leads_to_the_notebooks_and_to_the_page_to_draw_on(pages, site):
    links = {tag["href"] for tag in pages[site / "index.html"].select("article a[href]")}
    assert links >= {"page/index.html", *(f"notebooks/{name}.html" for name in NOTEBOOKS)}
    assert text.site(text.REPOSITORY) not in str(pages[site / "index.html"].find("article"))


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path):
    shutil.copytree(ROOT / "page", tmp_path / "source" / "page")
    readme = tmp_path / "source" / "README.md"
    readme.write_text("# Title\n\n[gone](gone.md)\n")
    done = build(readme.parent, tmp_path / "site")
    assert done.returncode and "gone.md" in done.stderr

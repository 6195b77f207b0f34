"""Settings of the site: README as its front page, the notebooks as they are committed, the page to draw on.

`sphinx-build -W -c site . _site` builds it, and stops at a link within the repository that leads nowhere.
No notebook is executed.
"""

import json
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import download_reference

REPOSITORY = "OWNER/mnist-ladder"            # `run.py --repo` rewrites both
ADDRESS = "https://OWNER.github.io/mnist-ladder/"
project = html_title = "MNIST, one step at a time"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["*.md", "notebooks/*.ipynb", "results/*.md", "benchmarks/*.md"]
nb_execution_mode = "off"
myst_heading_anchors = 3   # a link such as README.md#files
html_theme = "furo"
html_static_path, html_css_files = ["static"], ["site.css"]
html_theme_options = {"source_repository": f"https://github.com/{REPOSITORY}/", "source_branch": "main"}
html_show_sphinx = html_show_copyright = html_copy_source = html_use_index = False

# README has no table of contents that would fill the margin: its first table is one
CONTENTS = f"""
```{{toctree}}
:hidden:
:glob:
:caption: Notebooks
notebooks/?_*
notebooks/??_*
```
```{{toctree}}
:hidden:
:caption: More
Draw a digit <{ADDRESS}page/>
What each idea is worth <results/ideas>
What reproduces <results/reproduction>
How fast <benchmarks/README>
For maintainers <CONTRIBUTING>
```
"""


def setup(app):
    app.connect("source-read", complete)
    app.connect("doctree-read", lead, priority=100)   # before Sphinx copies the files that are linked to
    app.connect("build-finished", finish)


def complete(app, name, source):
    """Give README a table of contents; fold a notebook's set-up, and give its pictures their texts."""
    if name == root_doc:
        source[0] += CONTENTS
    if name.startswith("notebooks/"):
        notebook = json.loads(source[0])
        set_up = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        set_up["metadata"]["tags"] = ["hide-input"]
        for cell in notebook["cells"]:
            for output in cell.get("outputs", []):
                for picture in output.get("metadata", {}).values():
                    cell["metadata"]["mystnb"] = {"image": picture}   # its "alt"
        source[0] = json.dumps(notebook)


def lead(app, doctree):
    """Let links to files lead to GitHub, and links to this site's own address to what was built."""
    folder = Path(app.env.docname).parent
    for link in list(doctree.findall(download_reference)):
        address = f"https://github.com/{REPOSITORY}/blob/main/{(folder / link['reftarget']).as_posix()}"
        link.replace_self(nodes.reference("", "", *link.children, refuri=address))
    for link in list(doctree.findall(nodes.reference)):
        address = link.get("refuri", "")
        if address.startswith(ADDRESS):
            index = "index.html" if address.endswith("/") else ""   # so that it can be read from a disk
            link["refuri"] = "../" * len(folder.parts) + address.removeprefix(ADDRESS) + index


def finish(app, failure):
    """Add the page to draw on, and let the front page be found under the address of the site."""
    out = Path(app.outdir)
    if not failure:
        page = shutil.copytree(Path(app.srcdir, "page"), out / "page", dirs_exist_ok=True) / "index.html"
        back = f'<main>\n<nav><a href="../index.html">{project}</a></nav>'
        page.write_text(page.read_text("utf-8").replace("<main>", back, 1), "utf-8")
        shutil.copy(out / "README.html", out / "index.html")

"""Settings of Sphinx for the documentation of DARTS; nothing is fetched from a network."""

import importlib
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

project = "DARTS"
author = "The DARTS developers"
copyright = "The DARTS developers"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence", "deflist", "smartquotes"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

# References into other libraries are plain text; those into DARTS must lead somewhere.
nitpick_ignore_regex = [(r"py:.*", r"(?!darts).*")]
# Types of arguments that only the package itself gives.
nitpick_ignore = [
    ("py:class", "darts.run.trends.TrendCubes"),
    ("py:class", "darts_acquisition.cube.repository.Location"),
    ("py:class", "darts_acquisition.errors.Failure"),
    ("py:class", "darts_preprocessing.backends.interface.Interior"),
    ("py:class", "darts_preprocessing.nodes.Nodes"),
    ("py:class", "darts_segmentation.classes.Outputs"),
    ("py:class", "darts_segmentation.repeats.Name"),
]

html_theme = "pydata_sphinx_theme"
html_title = "DARTS"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_sidebars = {"**": ["globaltoc.html"]}
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    # The list of all pages stands at the side of each.
    "navbar_center": [],
    "use_edit_page_button": False,
}


def find_public_name(app: Sphinx, env: BuildEnvironment, node: Any, contnode: nodes.Element) -> nodes.Element | None:
    """Lead a reference to ``darts_utils.device.Device`` to its public name, ``darts_utils.Device``.

    What lies behind an underscore has no page, nor has a type variable (a lone capital); both stay plain text.
    """
    package, _, path = node.get("reftarget", "").partition(".")
    if not package.startswith("darts") or not path:
        return None
    name = path.rpartition(".")[2]
    if any(part.startswith("_") for part in path.split(".")) or (len(name) == 1 and name.isupper()):
        return contnode
    objects = env.domains["py"].data["objects"]
    public = f"{package}.{name}"
    if public not in objects:
        return None
    found = objects[public]
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode, public)


class PipelineOptions(SphinxDirective):
    """A table of the options of a pipeline, made from its fields: ``module class``."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and let MyST read it."""
        from darts.pipelines.options import PATH_OPTIONS, options_of

        module, name = self.arguments
        panels: dict[str, list[str]] = {}
        for item in options_of(getattr(importlib.import_module(module), name)):
            panels.setdefault(item.panel, []).append(self._row(item.name, item.help, item.default))
        panels["Folders"] = [self._row(name, text, None) for name, text in PATH_OPTIONS.items()]
        tables = [
            "\n".join([f"**{panel}**", "", "| option | meaning | default |", "|---|---|---|", *rows, ""])
            for panel, rows in panels.items()
        ]
        return self.parse_text_to_nodes("\n".join(tables))

    @staticmethod
    def _row(name: str, text: str, default: Any) -> str:
        if isinstance(default, list):
            shown = ", ".join(default)
        elif isinstance(default, bool):
            shown = "on" if default else "off"
        else:
            shown = "" if default is None else str(default)
        return f"| `--{name.replace('_', '-')}` | {text} | {shown} |"


AUXILIARY = {"arcticdem": "ArcticDEM", "tcvis": "TCVIS"}


class FeatureTable(SphinxDirective):
    """A table of the features of preprocessing, made from their registry: ``default``, or ``others``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the table as Markdown and let MyST read it."""
        from darts_preprocessing import FEATURES

        wanted = self.arguments[0] == "default"
        rows = [self._row(feature) for feature in FEATURES.own.values() if feature.by_default == wanted]
        head = "| variable | from | | unit | range |"
        return self.parse_text_to_nodes("\n".join([head, "|---|---|---|---|---|", *rows, ""]))

    @staticmethod
    def _row(feature: Any) -> str:
        needs = ", ".join(f"`{name}`" for name in feature.needs)
        source = needs or f"the same of {AUXILIARY[feature.auxiliary]}"
        function = feature.function and f"; {{func}}`~darts_preprocessing.{feature.function.__name__}`"
        band, span = feature.band, f"{feature.band.low:g} … {feature.band.high:g}".replace("-", "−")
        return f"| `{band.name}` | {source} | {feature.definition}{function or ''} | {band.units or ''} | {span} |"


def setup(app: Sphinx) -> None:
    """Connect the above with Sphinx."""
    app.add_directive("pipeline-options", PipelineOptions)
    app.add_directive("feature-table", FeatureTable)
    app.connect("missing-reference", find_public_name)

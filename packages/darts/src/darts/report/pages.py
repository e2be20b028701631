"""Render the templates of a report."""

import json
from functools import cache
from typing import Any
from urllib.parse import quote

import jinja2
from bokeh.embed import json_item


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("darts.report"),
        autoescape=jinja2.select_autoescape(("html", "xml")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """Render a template of this package; in HTML and XML, values are escaped."""
    return _environment().get_template(template).render(**values)


def embedded(model: object, target: str) -> dict[str, Any]:
    """Return what Bokeh's script needs to draw a model into an element of the page.

    Returns:
        A mapping for ``Bokeh.embed.embed_item``.
    """
    return dict(json_item(model, target))


def script_json(value: object) -> str:
    """Return a value as JSON that can stand inside a script of a page."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def tile_link(page: str) -> str:
    """Return the address of a tile's page as seen from the index, empty where it has none."""
    return f"tiles/{quote(page)}" if page else ""

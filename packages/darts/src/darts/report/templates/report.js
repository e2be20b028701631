"use strict";
Bokeh.logger.set_level("warn");

const darts = {
  // Draw models into the elements of the page that they name.
  async draw(items) {
    for (const item of items) {
      if (document.getElementById(item.target_id)) await Bokeh.embed.embed_item(item);
    }
    return Bokeh.documents;
  },

  // Find a model by its name, in whichever document it is.
  find(name) {
    for (const each of Bokeh.documents) {
      const found = each.get_model_by_name(name);
      if (found) return found;
    }
    return null;
  },

  // Colour the tiles of the map by what is chosen.
  colourTiles() {
    const view = darts.find("tiles view");
    for (const input of document.querySelectorAll("input[name=colour]")) {
      input.addEventListener("change", () => {
        for (const glyph of [view.glyph, view.nonselection_glyph]) glyph.fill_color = {field: input.value};
        for (const legend of document.querySelectorAll(".legend[data-for]")) legend.hidden = legend.dataset.for !== input.value;
      });
    }
  },

  // Put columns into the sources of that name, in a model that was not drawn yet.
  fill(part, data) {
    if (part === null || typeof part !== "object") return;
    const about = part.attributes;
    if (part.name === "ColumnDataSource" && about && about.name in data) {
      about.data = {type: "map", entries: Object.entries(data[about.name])};
    } else {
      for (const each of Object.values(part)) darts.fill(each, data);
    }
  },

  // Draw the map of a tile, which all pages share, with the data of this one.
  async drawTile(data, items) {
    darts.fill(window.dartsTileMap, data);
    await darts.draw([window.dartsTileMap, ...items]);
    for (const input of document.querySelectorAll("input[data-layer]")) {
      const view = darts.find(`${input.dataset.layer} view`);
      const show = () => { view.visible = input.checked; };
      input.addEventListener("change", show);
      show();
    }
  },

  // Sort the rows of a table by a column; what is unknown comes last.
  sort(table, index, ascending) {
    const body = table.tBodies[0];
    const number = table.tHead.rows[0].cells[index].classList.contains("number");
    const key = row => row.cells[index].dataset.key;
    const order = (a, b) => number ? Number(a) - Number(b) : a.localeCompare(b, undefined, {numeric: true});
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return ascending ? order(a, b) : order(b, a);
    });
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      cell.setAttribute("aria-sort", place !== index ? "none" : ascending ? "ascending" : "descending");
    });
  },
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    cell.querySelector("button").addEventListener("click", () => {
      const number = cell.classList.contains("number");
      const now = cell.getAttribute("aria-sort");
      darts.sort(table, index, now === "none" ? !number : now === "descending");
    });
  });
}

// The right-hand side: counts, sliders with histograms, the measurements of a cell, downloads.

import { save } from "./api.js";
import { byId, complain, make, short } from "./dom.js";

const STEPS = 1000; // of a slider
const FILES = [
  ["csv", "Table (CSV)"], ["parquet", "Table (Parquet)"], ["h5ad", "AnnData (h5ad)"], ["geojson", "QuPath (GeoJSON)"], ["geojson.gz", "QuPath (gz)"],
  ["rois", "ImageJ ROIs"], ["tiff", "Labels (TIFF)"], ["zarr", "Labels (Zarr)"], ["overlay", "Overlay (PNG)"],
];
const NAMES = {
  score: "score", y: "centre y (px)", x: "centre x (px)", area_px: "area (px)", diameter_px: "diameter (px)",
  area_um2: "area (µm²)", diameter_um: "diameter (µm)",
};

export class Panel {
  /** onChange(): what is shown, or its colour, has changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.table = null;
    this.written = new Set(); // addresses of files that are being written
    this.limits = { least: 0, most: Infinity }; // of areas, in pixels: sliders move when the largest cell goes, these do not
    this.links = FILES.map(() => this._link());
    byId("files").replaceChildren(...this.links.map((link) => make("li", {}, link)));
    byId("score").addEventListener("input", () => this._changed());
    for (const id of ["least", "most"]) {
      byId(id).addEventListener("input", () => { this.limits[id] = this._limit(id); this._changed(); });
    }
    byId("colour").addEventListener("change", () => this._changed());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this._draw());
  }

  get by() {
    return byId("colour").value;
  }

  get filter() {
    return { score: Number(byId("score").value) / STEPS, ...this.limits };
  }

  /** The area that a slider says; at its end it lets everything through. */
  _limit(id) {
    const part = Number(byId(id).value) / STEPS;
    const [low, high] = this.table.areaRange();
    if (id === "least" && part === 0) return 0;
    return id === "most" && part === 1 ? Infinity : low * (high / low) ** part;
  }

  /** Put the sliders where the limits are among the areas that there are now. */
  _place() {
    const [low, high] = this.table.areaRange(), { least, most } = this.limits;
    const at = (area) => Math.round(STEPS * Math.max(0, Math.min(1, Math.log(area / low) / Math.log(high / low))));
    byId("least").value = least ? at(least) : 0;
    byId("most").value = most === Infinity ? STEPS : at(most);
  }

  show(table, ground) {
    Object.assign(this, { table, ground });
    byId("ramp").className = ground;
    byId("panel").hidden = false;
    for (const id of ["measured", "one", "taking"]) byId(id).hidden = !table;
    if (!table) return;
    this._place();
    this.showCell(null, 0);
    this._changed();
  }

  /** Show the measurements of a cell, or how many are selected. */
  showCell(row, count) {
    byId("cell-number").textContent = row && count > 1 ? `${row.id} and ${count - 1} more` : row ? String(row.id) : "";
    if (!row) {
      byId("cell").replaceChildren(make("dt", { textContent: "Click a cell to measure it." }));
      return;
    }
    const said = this.table.corrected.has(row.id) ? "drawn by you" : this.table.confirmed.has(row.id) ? "right, you said" : "found by the model";
    const entries = Object.entries(row).filter(([name, value]) => name !== "id" && value !== null);
    byId("cell").replaceChildren(
      ...entries.flatMap(([name, value]) => [
        make("dt", { textContent: NAMES[name] || name.replace("mean_", "mean ") }), make("dd", { textContent: short(value) }),
      ]),
      make("dt", { textContent: "origin" }), make("dd", { textContent: said }),
    );
  }

  _changed() {
    this._draw();
    this.onChange();
  }

  _draw() {
    const { table } = this;
    if (!table) return;
    const filter = this.filter;
    const shown = table.countShown(filter), all = table.rows.size;
    const cells = all === 1 ? "cell" : "cells";
    byId("count").textContent = shown === all ? `${all.toLocaleString("en")} ${cells}` : `${shown.toLocaleString("en")} of ${all.toLocaleString("en")} ${cells}`;
    byId("how").textContent = howFound(table.facts);
    byId("score-value").textContent = filter.score.toFixed(2);
    byId("least-value").textContent = filter.least ? `${short(Math.round(filter.least))} px` : "any";
    byId("most-value").textContent = filter.most === Infinity ? "any" : `${short(Math.round(filter.most))} px`;
    for (const id of ["score", "least", "most"]) byId(id).setAttribute("aria-valuetext", byId(`${id}-value`).textContent);
    const part = (id) => Number(byId(id).value) / STEPS;
    drawHistogram(byId("score-histogram"), table.histogram("score"), part("score"), 1);
    drawHistogram(byId("area-histogram"), table.histogram("area"), part("least"), part("most"));
    this._drawFiles(filter);
  }

  _drawFiles(filter) {
    const asked = new URLSearchParams();
    if (filter.score) asked.set("min_score", filter.score);
    if (filter.least) asked.set("min_area_px", filter.least);
    if (filter.most !== Infinity) asked.set("max_area_px", filter.most);
    FILES.forEach(([kind, words], i) => {
      const href = `${this.table.path}/files/${kind}?${asked}`;
      const isWritten = this.written.has(href);
      Object.assign(this.links[i], { href, textContent: isWritten ? `${words} …` : words, ariaBusy: String(isWritten) });
    });
  }

  /** The link to a file; it stays, so that whoever has moved to it by keys stays there. */
  _link() {
    const link = make("a", { download: "" });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this._take(link.getAttribute("href")).catch(complain);
    });
    return link;
  }

  /** Have a file written and saved; the page stays, and says why if that fails. */
  async _take(path) {
    if (this.written.has(path)) return;
    this.written.add(path);
    this._draw();
    try {
      await save(path);
    } finally {
      this.written.delete(path);
      this._draw();
    }
  }
}

/** At which size cells were sought, and what could not be read. */
function howFound({ diameter_px: diameter, diameter_source: source, larger_px: larger, n_unread: unread }) {
  const besides = larger ? `, and ${short(larger)} px` : "";
  const size = source === "not known" ? "Nothing here looks like a cell." : `Sought about ${short(diameter)} px wide (${source})${besides}.`;
  return unread ? `${size} ${unread} ${unread === 1 ? "part" : "parts"} of the image could not be read.` : size;
}

function drawHistogram(canvas, bins, from, to) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const most = Math.max(1, ...bins), width = canvas.width / bins.length;
  bins.forEach((count, i) => {
    const middle = (i + 0.5) / bins.length;
    context.fillStyle = style.getPropertyValue(middle >= from && middle <= to ? "--accent" : "--bar");
    const height = count ? Math.max(ratio, (count / most) * (canvas.height - ratio)) : 0;
    context.fillRect(i * width, canvas.height - height, width - ratio, height);
  });
  context.fillStyle = style.getPropertyValue("--line");
  context.fillRect(0, canvas.height - ratio, canvas.width, ratio);
}

// The measurements of all cells, and which colour each has: what sliders change is done here, at once.

import { get, cellsPath } from "./api.js";

const RAMPS = {
  dark: [[255, 77, 136], [255, 210, 61], [53, 224, 255]],
  bright: [[230, 0, 90], [235, 130, 0], [0, 90, 255]],
};
const SELECTED = [40, 255, 60]; // in none of the ramps
const OUTLIERS = 0.02; // of the cells, at either end of their sizes, that have the colour of the end
const BINS = 40;

export class CellTable {
  static load(image, model) {
    return CellTable.at(cellsPath(image, model));
  }

  static async at(path) {
    return new CellTable(await get(path), path);
  }

  /** path: where its cells are asked for and corrected, whatever is chosen on the page by then. */
  constructor(facts, path) {
    this.facts = facts;
    this.path = path;
    this.rows = new Map();
    const { id, y, x, score, area_px: area, diameter_px: diameter } = facts.columns;
    id.forEach((number, i) => this.add({ id: number, y: y[i], x: x[i], score: score[i], area_px: area[i], diameter_px: diameter[i] }));
    this.confirmed = new Set(facts.confirmed);
    this.corrected = new Set(facts.corrected);
    this.regions = facts.regions;
    this.corrections = facts.n_corrections;
  }

  add(row) {
    this.rows.set(row.id, row);
  }

  /** Take over what a correction has changed. */
  apply(change) {
    this.corrections += 1;
    change.removed.forEach((id) => this.rows.delete(id));
    change.added.forEach((row) => { this.add(row); this.corrected.add(row.id); });
    change.confirmed.forEach((id) => this.confirmed.add(id));
    if (change.kind === "region") this.regions.push(change.window);
  }

  get largest() {
    let most = 0;
    for (const id of this.rows.keys()) if (id > most) most = id;
    return most;
  }

  /** The least and the greatest area, for scales; some room where all are alike. */
  areaRange() {
    let low = Infinity, high = 0;
    for (const row of this.rows.values()) {
      low = Math.min(low, row.area_px);
      high = Math.max(high, row.area_px);
    }
    return high > 0 ? [Math.max(1, low), Math.max(high, low + 1)] : [1, 2];
  }

  /** The areas between which most cells lie. */
  usualAreas() {
    const areas = Float64Array.from(this.rows.values(), (row) => row.area_px).sort();
    const low = areas[Math.floor(OUTLIERS * (areas.length - 1))] || 1;
    return [low, Math.max(areas[Math.ceil((1 - OUTLIERS) * (areas.length - 1))] || 1, low + 1)];
  }

  isShown(row, filter) {
    return row.score >= filter.score && row.area_px >= filter.least && row.area_px <= filter.most;
  }

  countShown(filter) {
    let count = 0;
    for (const row of this.rows.values()) count += this.isShown(row, filter);
    return count;
  }

  /** A colour for each cell number, as canvas pixels have them (alpha, blue, green, red); 0 is not drawn. */
  colours(filter, by, ground, selected) {
    const colours = new Uint32Array(this.largest + 1);
    const [low, high] = this.usualAreas();
    for (const row of this.rows.values()) {
      if (!this.isShown(row, filter) && !selected.has(row.id)) continue;
      const share = by === "score" ? row.score : Math.log(row.area_px / low) / Math.log(high / low);
      const [red, green, blue] = selected.has(row.id) ? SELECTED : mixed(RAMPS[ground], share);
      colours[row.id] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
    return colours;
  }

  /** How many cells have which score, or which area on a logarithmic scale. */
  histogram(by) {
    const bins = new Array(BINS).fill(0);
    const [low, high] = this.areaRange();
    for (const row of this.rows.values()) {
      const share = by === "score" ? row.score : Math.log(row.area_px / low) / Math.log(high / low);
      bins[Math.max(0, Math.min(BINS - 1, Math.floor(share * BINS)))] += 1;
    }
    return bins;
  }

  /**
   * The cell that is least likely to be right among those that nobody has seen to; null if there is none.
   * after: the row that was looked at last, which may be seen to by now; those before it come when the others are done.
   */
  leastCertain(filter, after) {
    const isOpen = (row) => !this.confirmed.has(row.id) && !this.corrected.has(row.id) && !this.isInRegion(row);
    const order = [...this.rows.values()].filter((row) => this.isShown(row, filter) && isOpen(row));
    order.sort((one, other) => one.score - other.score || one.id - other.id);
    const isLater = (row) => row.score > after.score || (row.score === after.score && row.id > after.id);
    return (after && order.find(isLater)) || order[0] || null;
  }

  isInRegion(row) {
    return this.regions.some(([top, left, bottom, right]) => row.y >= top && row.y < bottom && row.x >= left && row.x < right);
  }
}

function mixed(ramp, share) {
  const place = Math.max(0, Math.min(1, share)) * (ramp.length - 1);
  const first = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[first].map((value, i) => Math.round(value + (ramp[first + 1][i] - value) * (place - first)));
}

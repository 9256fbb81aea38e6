// Cells drawn over an image, from tiles of cell numbers. The browser draws the outlines, so that a change of colours
// or of what is shown needs nothing from the server.

import { ask } from "./api.js";
import { complain } from "./dom.js";

const MOST_TILES = 160; // kept, 1 MB each
const AT_ONCE = 6;
const RETRY_MS = [3000, 6000, 12000, 60000]; // after which a tile that did not come is asked for again
const MARGIN_PX = 2; // around each tile, as the server sends it
const THICK_FROM_PX = 12; // cells at least so wide have outlines of two pixels
const SMALLEST_OUTLINED_PX = 7; // smaller cells are filled: their outlines would hide all else
const INSIDE = 0x22000000; // how strong the inside of a cell is tinted
const SELECTED = 0x44000000;
const FILLED = 0xb0000000;

export class CellLayer {
  constructor(path, facts, diameter, redraw) {
    Object.assign(this, { path, facts, diameter, redraw, isVisible: true, colours: new Uint32Array(1), drawnAt: 0 });
    this.tiles = new Map();
    this.wanted = [];
    this.loading = 0;
    this.selected = new Set();
  }

  setColours(colours, selected) {
    this.colours = colours;
    this.selected = selected;
    for (const tile of this.tiles.values()) tile.isStale = true;
    this.redraw();
  }

  /** Forget the tiles that show a window (top, left, bottom, right), which has changed. */
  forget([top, left, bottom, right]) {
    for (const [key, tile] of this.tiles) {
      const side = this.facts.tile_px * tile.step, margin = MARGIN_PX * tile.step;
      const isApart = tile.row * side > bottom + margin || (tile.row + 1) * side < top - margin
        || tile.column * side > right + margin || (tile.column + 1) * side < left - margin;
      if (!isApart) tile.isOld = true;
      if (!isApart && !tile.picture) this.tiles.delete(key);
    }
    this.redraw();
  }

  /** Draw what is seen. place: where the image's first pixel is on the canvas; scale: canvas pixels a pixel of it. */
  draw(context, place, scale) {
    if (!this.isVisible) return;
    this.drawnAt = performance.now();
    const step = 2 ** Math.max(0, Math.floor(Math.log2(1 / scale)));
    const { canvas } = context;
    const side = this.facts.tile_px * step;
    const range = (start, extent, length) => [
      Math.max(0, Math.floor(-start / scale / side)),
      Math.min(Math.ceil(length / side) - 1, Math.floor((extent - start) / scale / side)),
    ];
    const [top, bottom] = range(place.y, canvas.height, this.facts.height);
    const [left, right] = range(place.x, canvas.width, this.facts.width);
    context.imageSmoothingEnabled = false;
    this.wanted = [];
    const present = [];
    for (let row = top; row <= bottom; row += 1) {
      for (let column = left; column <= right; column += 1) {
        const tile = this.tiles.get(`${step}/${row}/${column}`);
        if (!tile || tile.isOld) this.wanted.push({ step, row, column });
        if (tile && tile.picture) present.push(tile);
      }
    }
    if (this.wanted.length) this._drawCoarser(context, place, scale, step);
    for (const tile of present) this._drawTile(context, tile, place, scale);
    this._load();
  }

  /** Draw what is known from further away, until what is wanted has come. */
  _drawCoarser(context, place, scale, step) {
    const coarser = [...this.tiles.values()].filter((tile) => tile.picture && tile.step > step && tile.step <= 8 * step);
    coarser.sort((one, other) => other.step - one.step);
    for (const tile of coarser) this._drawTile(context, tile, place, scale);
  }

  _drawTile(context, tile, place, scale) {
    const side = this.facts.tile_px * tile.step * scale;
    const x = place.x + tile.column * side, y = place.y + tile.row * side;
    const width = tile.width * tile.step * scale, height = tile.height * tile.step * scale;
    if (x > context.canvas.width || y > context.canvas.height || x + width < 0 || y + height < 0) return;
    if (tile.isStale) this._paint(tile);
    tile.used = this.drawnAt;
    context.clearRect(x, y, width, height);
    context.drawImage(tile.picture, x, y, width, height);
  }

  _load() {
    while (this.loading < AT_ONCE && this.wanted.length) {
      const { step, row, column } = this.wanted.shift();
      const key = `${step}/${row}/${column}`;
      const known = this.tiles.get(key);
      if (known && known.isLoading) continue;
      const tile = known || { step, row, column };
      tile.isLoading = true;
      tile.isOld = false;
      this.tiles.set(key, tile);
      this.loading += 1;
      this._fetch(tile, key).finally(() => {
        this.loading -= 1;
        tile.isLoading = false;
        this.redraw();
      });
    }
  }

  async _fetch(tile, key) {
    try {
      const answer = await ask(`${this.path}/tiles/${key}`);
      const extent = (length, number) => Math.min(this.facts.tile_px, Math.ceil(length / tile.step) - number * this.facts.tile_px);
      tile.height = extent(this.facts.height, tile.row);
      tile.width = extent(this.facts.width, tile.column);
      tile.ids = new Uint32Array(await answer.arrayBuffer());
      tile.tries = 0;
      tile.used = performance.now();
      this._paint(tile);
      this._makeRoom();
    } catch (error) {
      tile.tries = Math.min((tile.tries || 0) + 1, RETRY_MS.length);
      if (tile.tries === RETRY_MS.length - 1) complain(error);
      setTimeout(() => { tile.isOld = true; this.redraw(); }, RETRY_MS[tile.tries - 1]);
    }
  }

  /** Turn numbers into coloured outlines: pixels of a cell next to one that is not of it. */
  _paint(tile) {
    const { width, height, ids } = tile;
    if (!tile.picture) {
      tile.picture = new OffscreenCanvas(width, height);
    }
    const context = tile.picture.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const isFilled = this.diameter / tile.step < SMALLEST_OUTLINED_PX;
    const across = width + 2 * MARGIN_PX;
    const far = this.diameter / tile.step < THICK_FROM_PX ? 1 : MARGIN_PX;
    const { colours } = this;
    let place = 0;
    for (let y = MARGIN_PX; y < height + MARGIN_PX; y += 1) {
      for (let i = y * across + MARGIN_PX, end = i + width; i < end; i += 1, place += 1) {
        const id = ids[i];
        const colour = id < colours.length ? colours[id] : 0;
        if (id === 0 || colour === 0) continue;
        const isEdge = ids[i - far] !== id || ids[i + far] !== id || ids[i - far * across] !== id || ids[i + far * across] !== id;
        const inside = this.selected.has(id) ? SELECTED : isFilled ? FILLED : INSIDE;
        pixels[place] = isEdge && !isFilled ? colour : ((colour & 0xffffff) | inside) >>> 0;
      }
    }
    context.putImageData(image, 0, 0);
    tile.isStale = false;
  }

  /** Forget what was not drawn for the longest time; never what is seen now, or has just come. */
  _makeRoom() {
    if (this.tiles.size <= MOST_TILES) return;
    const order = [...this.tiles].filter(([, tile]) => tile.picture && tile.used < this.drawnAt).sort(([, one], [, other]) => one.used - other.used);
    for (const [key] of order.slice(0, this.tiles.size - MOST_TILES)) this.tiles.delete(key);
  }
}

// One image in deep zoom, the cells of one model over it, and the lines that people draw.

import { CellLayer } from "./layer.js";
import { imagePath, cellsPath } from "./api.js";

const SCALE_BAR_PX = 90; // at least so long on the screen
const REGION_COLOUR = "#2fbf71";

export class Pane {
  /** listeners: onOpen(), onClick(y, x, isAdding), onDrawn(tool, points), onMove(pane). */
  constructor(parent, image, facts, listeners) {
    Object.assign(this, { image, facts, listeners, tool: "select", regions: [], points: [] });
    this.element = document.createElement("div");
    this.element.className = "pane";
    const viewer = document.createElement("div");
    viewer.className = "viewer";
    this.canvas = document.createElement("canvas");
    this.canvas.className = "cells";
    this.caption = document.createElement("div");
    this.caption.className = "caption";
    this.caption.hidden = true;
    this.bar = document.createElement("div");
    this.bar.className = "scale";
    this.element.append(viewer, this.canvas, this.caption, this.bar);
    parent.append(this.element);
    this.isDue = false;
    this.viewer = this._makeViewer(viewer);
    this._listen();
  }

  _makeViewer(element) {
    const { width, height, tile_px: side } = this.facts;
    const maxLevel = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / side)));
    const path = imagePath(this.image);
    return window.OpenSeadragon({
      element,
      showNavigationControl: false,
      animationTime: 0.5,
      minZoomImageRatio: 0.7,
      maxZoomPixelRatio: 24,
      visibilityRatio: 0.3,
      drawer: "canvas",
      imageSmoothingEnabled: false,
      crossOriginPolicy: false,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
      tileSources: {
        width, height, tileSize: side, minLevel: 0, maxLevel,
        getTileUrl: (level, x, y) => `${path}/tiles/${2 ** (maxLevel - level)}/${y}/${x}`,
      },
    });
  }

  _listen() {
    const { viewer, canvas } = this;
    viewer.addHandler("open", () => this.listeners.onOpen());
    for (const event of ["open", "update-viewport", "resize", "animation"]) viewer.addHandler(event, () => this.redraw());
    for (const event of ["animation", "zoom", "pan"]) viewer.addHandler(event, () => this.listeners.onMove(this));
    viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
    viewer.addHandler("canvas-click", (event) => {
      if (!event.quick || this.tool !== "select") return;
      const at = viewer.world.getItemAt(0).viewerElementToImageCoordinates(event.position);
      this.listeners.onClick(Math.floor(at.y), Math.floor(at.x), event.originalEvent.shiftKey);
    });
    canvas.addEventListener("pointerdown", (event) => {
      if (event.isPrimary && event.button !== 0) return;
      this.points = event.isPrimary ? [this._pointAt(event)] : []; // a second finger ends the line, and nothing is saved
      if (event.isPrimary) canvas.setPointerCapture(event.pointerId);
      this.redraw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary || !this.points.length) return;
      this.points.push(this._pointAt(event));
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => { if (event.isPrimary && event.button === 0) this._endDrawing(); });
    canvas.addEventListener("pointercancel", () => { this.points = []; this.redraw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const at = new window.OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
      if (!event.deltaY) return;
      viewer.viewport.zoomBy(event.deltaY < 0 ? 1.25 : 0.8, viewer.viewport.pointFromPixel(at));
      viewer.viewport.applyConstraints();
    }, { passive: false });
  }

  _endDrawing() {
    const { points, tool } = this;
    this.points = [];
    this.redraw();
    if (points.length < 2) return;
    const ends = [points[0], points[points.length - 1]];
    // The server counts from the middle of the first pixel.
    const sent = (tool === "region" ? ends : thinned(points)).map(([y, x]) => [y - 0.5, x - 0.5]);
    this.listeners.onDrawn(tool, sent);
  }

  _pointAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = this._place();
    return [(event.clientY - box.top - place.y) / place.scale, (event.clientX - box.left - place.x) / place.scale];
  }

  /** Where the image's first pixel is in the pane, and how large each is there, in CSS pixels. */
  _place() {
    const item = this.viewer.world.getItemAt(0);
    const first = item.imageToViewerElementCoordinates(new window.OpenSeadragon.Point(0, 0));
    const end = item.imageToViewerElementCoordinates(new window.OpenSeadragon.Point(this.facts.width, 0));
    return { x: first.x, y: first.y, scale: (end.x - first.x) / this.facts.width };
  }

  setTool(tool) {
    this.tool = tool;
    this.points = [];
    this.element.classList.toggle("drawing", tool !== "select");
    this.redraw();
  }

  showCells(model, table, isVisible) {
    this.layer = new CellLayer(cellsPath(this.image, model), this.facts, table.facts.diameter_px, () => this.redraw());
    this.layer.isVisible = isVisible;
    this.regions = table.regions;
    this.redraw();
  }

  redraw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      if (this.viewer.world && this.viewer.world.getItemCount()) this._draw();
    });
  }

  _draw() {
    const ratio = window.devicePixelRatio || 1;
    const { canvas } = this;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const { x, y, scale } = this._place();
    const place = { x: x * ratio, y: y * ratio };
    if (this.layer) this.layer.draw(context, place, scale * ratio);
    context.lineWidth = 2 * ratio;
    context.strokeStyle = REGION_COLOUR;
    context.setLineDash([6 * ratio, 4 * ratio]);
    const rectangle = ([top, left, bottom, right]) =>
      context.strokeRect(place.x + left * scale * ratio, place.y + top * scale * ratio,
        (right - left) * scale * ratio, (bottom - top) * scale * ratio);
    if (!this.layer || this.layer.isVisible) this.regions.forEach(rectangle);
    context.setLineDash([]);
    if (this.points.length > 1) this._drawPoints(context, place, scale * ratio, rectangle);
    this._drawBar(scale);
  }

  _drawPoints(context, place, scale, rectangle) {
    if (this.tool === "region") {
      const [y0, x0] = this.points[0], [y1, x1] = this.points[this.points.length - 1];
      rectangle([Math.min(y0, y1), Math.min(x0, x1), Math.max(y0, y1), Math.max(x0, x1)]);
      return;
    }
    for (const [colour, width] of [["#000", 2], ["#fff", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = 2 * width;
      context.beginPath();
      this.points.forEach(([y, x]) => context.lineTo(place.x + x * scale, place.y + y * scale));
      if (this.tool === "draw") context.closePath();
      context.stroke();
    }
  }

  _drawBar(scale) {
    const size = this.facts.pixel_size_um;
    const rough = SCALE_BAR_PX / scale * (size || 1);
    const power = 10 ** Math.floor(Math.log10(rough));
    const length = [1, 2, 5, 10].map((times) => times * power).find((value) => value >= rough / 2);
    const [line, words] = this.bar.children.length ? this.bar.children : [document.createElement("span"), document.createElement("div")];
    line.style.width = `${length / (size || 1) * scale}px`;
    words.textContent = size ? (length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(2))} µm`) : `${Number(length.toPrecision(2))} px`;
    this.bar.append(line, words);
  }

  /** Show a cell in the middle, large enough to judge it. */
  goTo(row) {
    const half = Math.max(row.diameter_px * 4, 40);
    const item = this.viewer.world.getItemAt(0);
    this.viewer.viewport.fitBounds(item.imageToViewportRectangle(row.x - half, row.y - half, 2 * half, 2 * half));
  }

  zoom(by) {
    this.viewer.viewport.zoomBy(by);
    this.viewer.viewport.applyConstraints();
  }

  /** Show the whole image. */
  fit(isAtOnce) {
    this.viewer.viewport.goHome(isAtOnce);
  }

  pan(dy, dx) {
    const { viewport } = this.viewer;
    viewport.panBy(viewport.deltaPointsFromPixels(new window.OpenSeadragon.Point(dx, dy)));
    viewport.applyConstraints();
  }

  /** See what another pane sees. */
  follow(other) {
    if (!this.viewer.world.getItemCount() || !other.viewer.world.getItemCount()) return;
    const bounds = other.viewer.viewport.getBounds(true), own = this.viewer.viewport.getBounds(true);
    const differs = ["x", "y", "width"].some((side) => Math.abs(bounds[side] - own[side]) > 1e-9);
    if (differs) this.viewer.viewport.fitBounds(bounds, true);
  }

  close() {
    this.viewer.destroy();
    this.element.remove();
  }
}

/** A line without the points that add nothing: those less than a quarter of a pixel from the one before. */
function thinned(points) {
  const kept = [points[0]];
  for (const point of points) {
    const last = kept[kept.length - 1];
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) > 0.25) kept.push(point);
  }
  const every = Math.ceil(kept.length / 4000);
  return kept.filter((_, i) => i % every === 0 || i === kept.length - 1);
}

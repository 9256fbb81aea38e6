// The page: which image is open, which cells are selected, what keys and buttons do.

import { cellsPath, get, imagePath, send } from "./api.js";
import { Card } from "./card.js";
import { byId, complain, fill, make } from "./dom.js";
import { Gallery } from "./gallery.js";
import { listenToKeys } from "./keys.js";
import { Pane } from "./pane.js";
import { Panel } from "./panel.js";
import { CellTable } from "./table.js";
import { Teaching } from "./teach.js";

const BUSY_MS = 700, IDLE_MS = 5000;
const HINTS = {
  select: "", split: "Drag a line right through the cell.", draw: "Drag around the cell.",
  region: "Drag a rectangle in which every cell is right and none is missing.",
};
// asked: how often an image or a model was asked for; an answer to an earlier question is too late.
const page = { state: { images: [], models: [], jobs: [], taught: null }, image: null, facts: null, panes: [], tables: [], asked: 0, selected: new Set() };
let isOffering = false; // to segment an image again
const panel = new Panel(recolour);
const card = new Card(() => { isOffering = false; return look(); });
const gallery = new Gallery(open, (name) => look().then(() => page.image || open(name)));
const teaching = new Teaching(async (model) => {
  await look();
  if (model) {
    byId("model").value = model;
    await showModel();
  }
});
let timer, asking = 0, isLeading = false;
let picked = 0; // how often cells were selected; an answer for an earlier selection is too late
let looked = null; // the row of the cell that was looked at last
let changing = Promise.resolve(); // the corrections that are on their way

const model = () => byId("model").value;
const jobOf = (image, of) => page.state.jobs.filter((job) => job.kind === "segment" && job.image === image && job.model === of).pop();
const isSegmented = (of) => page.state.images.some(({ name, segmented_by: by }) => name === page.image && by.includes(of));

async function look() {
  clearTimeout(timer);
  const turn = (asking += 1);
  try {
    const state = await get("/api/state");
    if (turn !== asking) return;
    const was = page.state;
    page.state = state;
    showState();
    const ended = state.jobs.filter((now) => now.kind === "segment" && was.jobs.some((job) => job.number === now.number && job.state !== now.state));
    for (const { image, model: of, error } of ended.filter((job) => job.state === "failed")) {
      if (image !== page.image) complain(new Error(`${image}: ${error}`));
      else if (isSegmented(of)) complain(new Error(error));
    }
    const shown = page.tables[0], of = state.images.find(({ name }) => name === page.image);
    const isOther = shown && of && of.made[model()] && shown.path === cellsPath(page.image, model()) && shown.facts.made !== of.made[model()];
    const isShown = (job) => job.state === "done" && job.image === page.image && [model(), byId("other").value].includes(job.model);
    if (isOther || ended.some(isShown)) await showModel();
  } catch (error) {
    complain(error);
  }
  const isBusy = page.state.jobs.some((job) => ["waiting", "working"].includes(job.state));
  timer = setTimeout(look, isBusy ? BUSY_MS : IDLE_MS);
}

function showState() {
  const { folder, images, models, jobs } = page.state;
  byId("folder").textContent = folder;
  const pending = jobs.filter((job) => ["waiting", "working"].includes(job.state));
  const now = pending.find((job) => job.state === "working");
  const share = now && now.share !== null ? ` ${Math.round(100 * now.share)} %` : "";
  if (!gallery.uploads) {
    byId("busy").textContent = now
      ? `${now.kind === "teach" ? `Teaching ${now.model}` : now.image}: ${now.stage || "starting"}${share}${pending.length > 1 ? `, ${pending.length - 1} waiting` : ""}` : "";
  }
  gallery.show(images, page.image, jobs);
  fill(byId("model"), models.map((name) => [name, name]));
  const others = models.filter((name) => name !== model() && isSegmented(name));
  fill(byId("other"), [["", others.length ? "nothing" : "no second model yet"], ...others.map((name) => [name, name])]);
  byId("other").disabled = !others.length;
  teaching.show(page.state, model());
  showCard();
  if (!page.image && images.length) open(images[0].name);
}

function showCard() {
  if (!page.image) {
    if (!page.state.images.length) card.say("No images yet", "Drop images or slides here, or choose “Add images”. They are copied into the folder.");
    return;
  }
  if (!page.facts) return;
  const job = jobOf(page.image, model());
  const isBusy = job && ["waiting", "working"].includes(job.state);
  if (!isSegmented(model()) || isBusy || isOffering) {
    const onClose = () => { isOffering = false; showCard(); };
    const behind = isOffering ? { corrections: page.tables[0] ? page.tables[0].corrections : 0, onClose } : null;
    card.show(page.image, model(), page.facts, isOffering && !isBusy ? undefined : job, behind);
  } else card.hide();
}

async function open(name) {
  const asked = (page.asked += 1);
  page.image = name;
  page.facts = looked = null;
  card.given = null;
  isOffering = false;
  closePanes();
  card.hide();
  byId("hint").textContent = "Opening …";
  gallery.show(page.state.images, name, page.state.jobs);
  try {
    const facts = await get(imagePath(name));
    if (page.asked !== asked) return;
    page.facts = facts;
    const of = page.state.images.find((image) => image.name === name);
    if (of && of.segmented_by.length && !of.segmented_by.includes(model())) byId("model").value = of.segmented_by[0];
    page.panes = [makePane()];
    byId("tools").hidden = false;
    byId("other").value = "";
    await showModel();
  } catch (error) {
    if (page.asked !== asked) return;
    byId("hint").textContent = "";
    card.say("This image cannot be shown", error.message, true);
  }
}

function makePane() {
  return new Pane(byId("panes"), page.image, page.facts, {
    onClick: click, onDrawn: drawn,
    onMove: lead, onOpen: () => { if (page.panes.length > 1) fitAll(); },
  });
}

/** Let the other panes see what one sees; that they move is no reason to begin again. */
function lead(moved) {
  if (isLeading) return;
  isLeading = true;
  page.panes.filter((pane) => pane !== moved).forEach((pane) => pane.follow(moved));
  isLeading = false;
}

/** Show the whole image in every pane, once panes have the size that their number leaves them. */
function fitAll() {
  setTimeout(() => {
    if (!page.panes.length) return;
    page.panes[0].fit(true);
    lead(page.panes[0]);
  }, 100);
}

function closePanes() {
  page.panes.forEach((pane) => pane.close());
  Object.assign(page, { panes: [], tables: [], selected: new Set() });
  byId("tools").hidden = byId("panel").hidden = true;
  byId("hint").textContent = "";
}

/** Load the cells of the chosen model, and those of the other one beside it. */
async function showModel() {
  if (!page.facts) return; // the image is being opened, which ends with this
  const asked = ++page.asked, image = page.image, chosen = [model(), byId("other").value].filter((name) => name && isSegmented(name));
  isOffering = false;
  picked += 1;
  page.selected = new Set();
  if (page.tables[0] && page.tables[0].path !== cellsPath(image, model())) {
    page.tables = []; // nobody corrects these any more
    looked = null;
    setTool("select");
    panel.show(null, page.facts.is_bright ? "bright" : "dark");
    recolour();
  }
  try {
    const tables = await Promise.all(chosen.map((name) => CellTable.load(image, name)));
    if (page.image !== image || page.asked !== asked) return;
    page.tables = isSegmented(model()) ? tables : [];
    if (page.tables.length) card.given = tables[0].facts.diameter_source === "given" ? Number(tables[0].facts.diameter_px.toFixed(1)) : null;
    while (page.panes.length > Math.max(1, page.tables.length)) {
      page.panes.pop().close();
      fitAll();
    }
    while (page.panes.length < page.tables.length) page.panes.push(makePane());
    page.panes.forEach((pane, i) => {
      if (page.tables[i]) pane.showCells(chosen[i], page.tables[i], areCellsVisible());
      else Object.assign(pane, { layer: null, regions: [] });
      pane.caption.textContent = page.tables[i] ? `${chosen[i]}: ${page.tables[i].rows.size.toLocaleString("en")} cells` : "";
      pane.caption.hidden = page.tables.length < 2;
      pane.redraw();
    });
  } catch (error) {
    complain(error);
    if (page.image !== image || page.asked !== asked) return;
    page.tables = [];
    page.panes.forEach((pane) => {
      Object.assign(pane, { layer: null, regions: [] });
      pane.caption.hidden = true;
      pane.redraw();
    });
  }
  panel.show(page.tables[0] || null, page.facts.is_bright ? "bright" : "dark");
  recolour();
  setTool("select");
  await teaching.look().catch(complain);
  showState();
}

function recolour() {
  const ground = page.facts && page.facts.is_bright ? "bright" : "dark";
  page.panes.forEach((pane, i) => {
    const selected = i === 0 ? page.selected : new Set();
    if (page.tables[i]) pane.layer.setColours(page.tables[i].colours(panel.filter, panel.by, ground, selected), selected);
  });
  for (const button of document.querySelectorAll("[data-do]")) {
    const needed = { confirm: 1, delete: 1, merge: 2 }[button.dataset.do] || 0;
    const isUndo = button.dataset.do === "undo" && page.tables[0] && !page.tables[0].corrections;
    button.disabled = page.selected.size < needed || isUndo || (!page.tables.length && ["next", "undo"].includes(button.dataset.do));
  }
  for (const button of document.querySelectorAll("[data-tool]")) button.disabled = !page.tables.length;
}

async function click(y, x, isAdding) {
  const table = page.tables[0];
  if (!table) return;
  if (!isAdding) {
    picked += 1;
    page.selected.clear(); // no key acts on what was selected before
  }
  const turn = picked;
  try {
    const { cell } = y < 0 || x < 0 ? { cell: null } : await get(`${table.path}/at/${y}/${x}`);
    if (table !== page.tables[0] || turn !== picked) return;
    const isHit = cell && table.isShown(cell, panel.filter);
    if (isHit && isAdding && page.selected.has(cell.id)) page.selected.delete(cell.id);
    else if (isHit) page.selected.add(cell.id);
    if (isHit) looked = cell;
    panel.showCell(isHit ? cell : null, page.selected.size);
    recolour();
  } catch (error) {
    complain(error);
  }
}

/** What was drawn is a correction; that all is right here can only be said of what is seen. */
function drawn(tool, points) {
  const table = page.tables[0];
  if (tool === "region" && table) {
    const [[top, bottom], [left, right]] = [0, 1].map((axis) => points.map((point) => point[axis]).sort((a, b) => a - b));
    const isHidden = (row) => row.y >= top && row.y <= bottom && row.x >= left && row.x <= right && !table.isShown(row, panel.filter);
    const hidden = [...table.rows.values()].filter(isHidden).length;
    if (hidden) {
      complain(new Error(`The sliders hide ${hidden} ${hidden === 1 ? "cell" : "cells"} in this rectangle, which would be learned as right. Set them back first.`));
      return;
    }
  }
  correct({ kind: tool, points });
}

/** One change at a time: each is of what the one before has left. */
function inTurn(work) {
  changing = changing.then(work).catch(complain);
}

/** Whether a table is of the cells that are shown, before these corrections or after. */
function isCurrent(table) {
  const shown = page.tables[0];
  return Boolean(shown) && shown.path === table.path && shown.facts.made === table.facts.made;
}

function correct(body) {
  const asked = page.tables[0], turn = picked;
  if (asked) inTurn(() => carryOut(asked, body, turn));
}

function undo() {
  const asked = page.tables[0];
  if (asked) inTurn(() => takeBack(asked));
}

async function carryOut(asked, body, turn) {
  let table = isCurrent(asked) ? page.tables[0] : asked;
  const isLeft = (id) => table.rows.has(id) && !(body.kind === "confirm" && table.confirmed.has(id));
  if (body.cells && isCurrent(table) && !body.cells.some(isLeft)) return; // the key was pressed twice
  try {
    const change = await send("POST", `${table.path}/corrections`, { ...body, made: table.facts.made });
    if (!isCurrent(table)) return;
    if (table === page.tables[0]) {
      table.apply(change);
      page.panes[0].layer.forget(change.window);
    } else {
      table = await loadAgain(table.path, change);
      if (!table) return;
    }
    if (change.warning) complain(new Error(change.warning));
    if (turn === picked) page.selected = new Set(change.added.map((row) => row.id));
    else change.removed.forEach((id) => page.selected.delete(id)); // others were selected meanwhile
    byId("hint").textContent = `Saved: ${{ delete: "removed", merge: "merged", split: "split", draw: "drawn", region: "all right here", confirm: "right" }[change.kind]}.`;
    panel.show(table, panel.ground);
    panel.showCell(table.rows.get(cells()[0]) || null, page.selected.size);
    if (body.kind === "confirm" && turn === picked) next().catch(complain);
    lookAtLessons();
  } catch (error) {
    complain(error);
    if (error.status === 409 && isCurrent(table)) await showModel();
  }
}

async function takeBack(asked) {
  try {
    const change = await send("DELETE", `${asked.path}/corrections?made=${asked.facts.made}`);
    const table = await loadAgain(asked.path, change);
    if (!table) return;
    if (change.warning) complain(new Error(change.warning));
    picked += 1;
    page.selected = new Set();
    panel.show(table, panel.ground);
    byId("hint").textContent = "Taken back.";
    lookAtLessons();
  } catch (error) {
    complain(error);
    if (error.status === 409 && isCurrent(asked)) await showModel();
  }
}

/** Load the cells anew after a change that cannot be applied to those that are here; null if others are shown by now. */
async function loadAgain(path, change) {
  const table = await CellTable.at(path);
  if (!isCurrent(table)) return null;
  page.tables[0] = table;
  page.panes[0].regions = table.regions;
  page.panes[0].layer.forget(change.window);
  return table;
}

function lookAtLessons() {
  teaching.look().then(() => teaching.show(page.state, model())).catch(complain);
}

async function next() {
  const turn = (picked += 1), table = page.tables[0], row = table.leastCertain(panel.filter, looked);
  looked = row || looked;
  page.selected = new Set(row ? [row.id] : []);
  byId("hint").textContent = row ? `Score ${row.score.toFixed(2)}. Right (R), delete (X), split (S), or next (N)?` : "Every cell that is shown has been looked at.";
  recolour();
  if (!row) return;
  page.panes[0].goTo(row);
  const { cell } = await get(`${table.path}/at/${Math.round(row.y)}/${Math.round(row.x)}`);
  if (turn !== picked || table !== page.tables[0]) return;
  panel.showCell(cell && cell.id === row.id ? cell : row, 1); // the middle of a bent cell may lie in another
}

function setTool(tool) {
  if (!page.panes.length) return;
  page.panes[0].setTool(tool);
  byId("hint").textContent = HINTS[tool];
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
}

const cells = () => [...page.selected];
const outlinesButton = () => document.querySelector("[data-do=outlines]");
const areCellsVisible = () => outlinesButton().getAttribute("aria-pressed") === "true";
const actions = {
  confirm: () => page.selected.size && correct({ kind: "confirm", cells: cells() }),
  delete: () => page.selected.size && correct({ kind: "delete", cells: cells() }),
  merge: () => page.selected.size > 1 && correct({ kind: "merge", cells: cells() }),
  next: () => page.tables.length && next().catch(complain),
  undo,
  in: () => page.panes[0].zoom(1.6),
  out: () => page.panes[0].zoom(1 / 1.6),
  fit: () => page.panes[0].fit(false),
  outlines: () => {
    const isVisible = !areCellsVisible();
    outlinesButton().setAttribute("aria-pressed", String(isVisible));
    page.panes.forEach((pane) => { if (pane.layer) pane.layer.isVisible = isVisible; pane.redraw(); });
  },
  none: () => { picked += 1; page.selected.clear(); panel.showCell(null, 0); setTool("select"); recolour(); },
  help: () => byId("help").showModal(),
};
listenToKeys({
  isOpen: () => page.panes.length > 0,
  choose: (tool) => { if (page.tables.length) setTool(tool); },
  act: (action) => actions[action](),
  pan: (dy, dx) => page.panes[0].pan(dy, dx),
});
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]());
for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
byId("model").addEventListener("change", () => { byId("other").value = ""; showState(); showModel(); });
byId("other").addEventListener("change", showModel);
byId("again").addEventListener("click", () => { isOffering = true; showCard(); });
byId("help-button").addEventListener("click", actions.help);
look();

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
    const ended = state.jobs.filter((now) => now.kind === "segment" && now.image === page.image
      && was.jobs.some((job) => job.number === now.number && job.state !== now.state));
    for (const { error } of ended.filter((job) => job.state === "failed" && isSegmented(job.model))) complain(new Error(error));
    const shown = page.tables[0], of = state.images.find(({ name }) => name === page.image);
    const isOther = shown && of && of.made[model()] && shown.path === cellsPath(page.image, model()) && shown.facts.made !== of.made[model()];
    if (isOther || ended.some((job) => job.state === "done")) await showModel();
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
  page.image = name;
  page.facts = null;
  card.given = null;
  isOffering = false;
  closePanes();
  card.hide();
  byId("hint").textContent = "Opening …";
  gallery.show(page.state.images, name, page.state.jobs);
  try {
    const facts = await get(imagePath(name));
    if (page.image !== name) return;
    page.facts = facts;
    const of = page.state.images.find((image) => image.name === name);
    if (of && of.segmented_by.length && !of.segmented_by.includes(model())) byId("model").value = of.segmented_by[0];
    page.panes = [makePane()];
    byId("tools").hidden = false;
    byId("other").value = "";
    await showModel();
  } catch (error) {
    byId("hint").textContent = "";
    if (page.image === name) card.say("This image cannot be shown", error.message, true);
  }
}

function makePane() {
  return new Pane(byId("panes"), page.image, page.facts, {
    onClick: click, onDrawn: (tool, points) => correct({ kind: tool, points }),
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
  const asked = ++page.asked, image = page.image, chosen = [model(), byId("other").value].filter((name) => name && isSegmented(name));
  isOffering = false;
  page.selected = new Set();
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
      if (page.tables[i]) pane.showCells(chosen[i], page.tables[i]);
      else Object.assign(pane, { layer: null, regions: [] });
      pane.caption.textContent = page.tables[i] ? `${chosen[i]}: ${page.tables[i].rows.size.toLocaleString("en")} cells` : "";
      pane.caption.hidden = page.tables.length < 2;
      pane.redraw();
    });
  } catch (error) {
    complain(error);
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
  try {
    const { cell } = await get(`${table.path}/at/${Math.max(0, y)}/${Math.max(0, x)}`);
    if (table !== page.tables[0]) return;
    const isHit = cell && table.isShown(cell, panel.filter);
    if (!isAdding) page.selected.clear();
    if (isHit && isAdding && page.selected.has(cell.id)) page.selected.delete(cell.id);
    else if (isHit) page.selected.add(cell.id);
    panel.showCell(isHit ? cell : null, page.selected.size);
    recolour();
  } catch (error) {
    complain(error);
  }
}

async function correct(body) {
  const table = page.tables[0], image = page.image;
  try {
    const change = await send("POST", `${table.path}/corrections`, { ...body, made: table.facts.made });
    if (table !== page.tables[0]) return;
    table.apply(change);
    if (change.warning) complain(new Error(change.warning));
    page.selected = new Set(change.added.map((row) => row.id));
    byId("hint").textContent = `Saved: ${{ delete: "removed", merge: "merged", split: "split", draw: "drawn", region: "all right here", confirm: "right" }[change.kind]}.`;
    page.panes[0].layer.forget(change.window);
    panel.show(table, panel.ground);
    panel.showCell(change.added[0] || null, page.selected.size);
    if (body.kind === "confirm") next(body.cells[0]);
    await teaching.look();
    teaching.show(page.state, model());
  } catch (error) {
    complain(error);
    if (error.status === 409 && table === page.tables[0]) await showModel();
  }
}

async function undo() {
  const before = page.tables[0];
  if (!before) return;
  try {
    const change = await send("DELETE", `${before.path}/corrections?made=${before.facts.made}`);
    const table = await CellTable.at(before.path);
    if (before !== page.tables[0]) return;
    if (change.warning) complain(new Error(change.warning));
    page.tables[0] = table;
    page.selected = new Set();
    page.panes[0].regions = table.regions;
    page.panes[0].layer.forget(change.window);
    panel.show(table, panel.ground);
    byId("hint").textContent = "Taken back.";
    await teaching.look();
    teaching.show(page.state, model());
  } catch (error) {
    complain(error);
    if (error.status === 409 && before === page.tables[0]) await showModel();
  }
}

async function next(after) {
  const row = page.tables[0].leastCertain(panel.filter, after);
  page.selected = new Set(row ? [row.id] : []);
  byId("hint").textContent = row ? `Score ${row.score.toFixed(2)}. Right (R), delete (X), split (S), or next (N)?` : "Every cell that is shown has been looked at.";
  recolour();
  if (!row) return;
  page.panes[0].goTo(row);
  const { cell } = await get(`${page.tables[0].path}/at/${Math.round(row.y)}/${Math.round(row.x)}`);
  panel.showCell(cell && cell.id === row.id ? cell : row, 1); // the middle of a bent cell may lie in another
}

function setTool(tool) {
  if (!page.panes.length) return;
  page.panes[0].setTool(tool);
  byId("hint").textContent = HINTS[tool];
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
}

const cells = () => [...page.selected];
const actions = {
  confirm: () => page.selected.size && correct({ kind: "confirm", cells: cells() }),
  delete: () => page.selected.size && correct({ kind: "delete", cells: cells() }),
  merge: () => page.selected.size > 1 && correct({ kind: "merge", cells: cells() }),
  next: () => page.tables.length && next(cells()[0]).catch(complain),
  undo,
  in: () => page.panes[0].zoom(1.6),
  out: () => page.panes[0].zoom(1 / 1.6),
  fit: () => page.panes[0].fit(false),
  outlines: () => {
    const button = document.querySelector("[data-do=outlines]");
    const isVisible = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(isVisible));
    page.panes.forEach((pane) => { if (pane.layer) pane.layer.isVisible = isVisible; pane.redraw(); });
  },
  none: () => { page.selected.clear(); panel.showCell(null, 0); setTool("select"); recolour(); },
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

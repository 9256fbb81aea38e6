// What keys do, and the list of them.

import { byId, make } from "./dom.js";

const PAN_PX = 80;
const WORDS = {
  "Click": "measure a cell; with Shift: select several", "V": "select", "S": "split by a line", "D": "draw a new cell",
  "A": "mark where all is right", "R": "the selected cell is right", "X or Delete": "remove the selected cells",
  "M": "merge the selected cells", "N": "go to the least certain cell", "U or Ctrl+Z": "undo", "O": "show or hide cells",
  "+ - 0": "zoom in, out, whole image", "Arrows": "move", "Escape": "select nothing", "?": "these keys",
};
const TOOLS = { v: "select", s: "split", d: "draw", a: "region" };
const ACTIONS = {
  r: "confirm", x: "delete", delete: "delete", backspace: "delete", m: "merge", n: "next", u: "undo", o: "outlines",
  "+": "in", "=": "in", "-": "out", 0: "fit", escape: "none", "?": "help",
};
const MAY_BE_HELD = ["in", "out"];
const ARROWS = { arrowup: [-PAN_PX, 0], arrowdown: [PAN_PX, 0], arrowleft: [0, -PAN_PX], arrowright: [0, PAN_PX] };

/** isOpen(): whether there is an image; choose(tool), act(action), pan(dy, dx): what keys ask for. */
export function listenToKeys({ isOpen, choose, act, pan }) {
  byId("keys").replaceChildren(...Object.entries(WORDS).flatMap(([key, words]) => [
    make("dt", { textContent: key }), make("dd", { textContent: words }),
  ]));
  document.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    const isTyping = event.target.closest("input, select, textarea") && key !== "escape";
    if (isTyping || event.target.closest("dialog") || event.altKey || event.metaKey || !isOpen()) return;
    if (event.ctrlKey && (key !== "z" || event.shiftKey)) return;
    if (/^[a-z?]$/.test(key) && !event.ctrlKey && !byId("letters").checked) return;
    const isHeld = event.repeat && !ARROWS[key] && !MAY_BE_HELD.includes(ACTIONS[key]);
    if (isHeld) { // what is saved, or moves on to another cell, is done once a press
      if (TOOLS[key] || ACTIONS[key]) event.preventDefault();
      return;
    }
    if (event.ctrlKey) act("undo");
    else if (TOOLS[key]) choose(TOOLS[key]);
    else if (ACTIONS[key]) act(ACTIONS[key]);
    else if (ARROWS[key]) pan(...ARROWS[key]);
    else return;
    event.preventDefault();
  });
}

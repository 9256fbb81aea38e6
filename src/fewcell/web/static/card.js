// What stands in the middle where there are no cells yet: an offer to segment, how far that is, or what went wrong.

import { imagePath, send } from "./api.js";
import { byId, complain, make } from "./dom.js";
import { Progress } from "./progress.js";

export class Card {
  /** onStarted(): a segmentation was asked for. */
  constructor(onStarted) {
    this.onStarted = onStarted;
    this.given = null; // the diameter that was given last for this image
    this.shown = "";
    this.progress = null;
  }

  hide() {
    byId("card").hidden = true;
    this.shown = "";
  }

  /** Show words only. */
  say(heading, words, isError = false) {
    this._fill(`${heading}${words}`, () => [
      make("h2", { textContent: heading }), make("p", { textContent: words, className: isError ? "error" : "quiet" }),
    ]);
  }

  /** Show the state of an image for a model. job: the latest of both, or undefined. behind: what lies behind the
   * offer, { corrections: how many there are, onClose }, or null. */
  show(image, model, facts, job, behind) {
    if (job && ["waiting", "working"].includes(job.state)) {
      this._fill(`job ${job.number}`, () => {
        this.progress = new Progress(job.number, "Looking at the image");
        return [make("h2", { textContent: "Finding the cells" }), ...this.progress.elements];
      });
      this.progress.tell(job);
    } else {
      const failure = job && job.state === "failed" ? job.error : "";
      this._fill(`${image} ${model} ${failure}`, () => this._offer(image, model, facts, failure, behind));
    }
  }

  _fill(key, makeChildren) {
    if (this.shown === key) return;
    this.shown = key;
    byId("card").replaceChildren(...makeChildren());
    byId("card").hidden = false;
  }

  _offer(image, model, facts, failure, behind) {
    const diameter = make("input", { type: "number", min: "1", step: "any", id: "diameter", placeholder: "estimated", value: this.given || "" });
    const channels = make("input", { type: "text", id: "channels", placeholder: "all" });
    const names = facts.channel_names;
    const start = make("button", { className: "main", id: "segment", textContent: failure ? "Try again" : "Find the cells" });
    start.addEventListener("click", async () => {
      const chosen = channels.value.trim() ? channels.value.split(",").map(Number) : null;
      start.disabled = true;
      try {
        await send("POST", `${imagePath(image)}/segment`, { model, diameter_px: Number(diameter.value) || null, channels: chosen });
        this.shown = "";
        this.onStarted();
      } catch (error) {
        start.disabled = false;
        complain(error);
      }
    });
    const row = (id, words, input) => make("div", { className: "row" }, make("label", { htmlFor: id, textContent: words }), input);
    const size = `${facts.width.toLocaleString("en")} × ${facts.height.toLocaleString("en")} px`
      + (facts.pixel_size_um ? `, ${facts.pixel_size_um.toPrecision(3)} µm a pixel` : "")
      + (facts.plane ? `, the middle plane (${facts.plane}) of a stack` : "");
    const buttons = make("div", { className: "actions" });
    if (behind) {
      const close = make("button", { textContent: "Cancel" });
      close.addEventListener("click", behind.onClose);
      buttons.append(close);
    }
    buttons.append(start);
    return [
      make("h2", { textContent: failure ? "This did not work" : "Find the cells of this image" }),
      ...(failure ? [make("div", { className: "error", textContent: failure })] : []),
      make("p", { className: "quiet", textContent: `${size}; model ${model}` }),
      row("diameter", "How wide the cells are (px)", diameter),
      ...(names.length > 1 ? [row("channels", `Channels, from 0 (there are ${names.length})`, channels)] : []),
      ...(behind && behind.corrections ? [make("p", { className: "quiet", textContent: setAside(behind.corrections) })] : []),
      buttons,
    ];
  }
}

function setAside(count) {
  const [what, they] = count === 1 ? ["Your correction", "it was"] : [`Your ${count} corrections`, "they were"];
  return `${what} will be set aside with the cells of which ${they} made. What a model can learn from them stays.`;
}

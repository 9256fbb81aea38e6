// Teaching: how much there is to learn from, how far it is, what came of it, keep or drop.

import { get, send } from "./api.js";
import { byId, complain, make } from "./dom.js";
import { Progress } from "./progress.js";

const WELCOME_CELLS = 30; // known cells from which on teaching is likely to tell

export class Teaching {
  /** onChange(model): a model was kept (its name) or dropped (null). */
  constructor(onChange) {
    this.onChange = onChange;
    this.lessons = { crops: 0, cells: 0 };
    this.shown = "";
    this.progress = null;
    this.mayForget = false;
  }

  async look() {
    this.lessons = await get("/api/teaching");
    if (!this.shown.startsWith("job ")) this.shown = "";
  }

  show(state, model) {
    const job = state.jobs.filter((one) => one.kind === "teach").pop();
    const isBusy = job && ["waiting", "working"].includes(job.state);
    const place = byId("teach");
    if (isBusy) {
      if (this.shown !== `job ${job.number}`) {
        this.progress = new Progress(job.number, "Starting");
        place.replaceChildren(...this.progress.elements);
        this.shown = `job ${job.number}`;
      }
      this.progress.tell(job);
      return;
    }
    const key = JSON.stringify([job, state.taught, this.lessons, model]);
    if (key === this.shown) return;
    this.shown = key;
    if (state.taught) place.replaceChildren(...this._outcome(state.taught));
    else if (!place.querySelector("input") || !place.contains(document.activeElement)) {
      place.replaceChildren(...this._offer(job, model));
    }
  }

  _offer(job, model) {
    const { cells, crops } = this.lessons;
    const words = cells
      ? `${cells} cells known in ${crops} ${crops === 1 ? "part" : "parts"}.`
        + (cells < WELCOME_CELLS ? ` Some ${WELCOME_CELLS} or more tell most; “All right here” adds many at once.` : "")
      : "Correct some cells, and mark rectangles in which all are right. The model then learns from them.";
    const minutes = make("input", { type: "number", min: "0.1", max: "1440", step: "any", value: "4", id: "minutes" });
    const forget = make("input", { type: "checkbox", id: "may-forget", checked: this.mayForget });
    forget.addEventListener("change", () => { this.mayForget = forget.checked; });
    const button = make("button", { className: "main", textContent: "Teach", disabled: !cells || !model });
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await send("POST", "/api/teaching", { model, minutes: Number(minutes.value), may_forget: forget.checked });
      } catch (error) {
        button.disabled = false;
        complain(error);
        return;
      }
      this.onChange(null);
    });
    const failure = job && job.state === "failed" ? [make("p", { className: "error", textContent: job.error })] : [];
    const row = make("div", { className: "row" }, make("label", { htmlFor: "minutes", textContent: "Minutes" }), minutes, button);
    const only = make("label", { htmlFor: "may-forget", textContent: "Only images like these count: it may forget others" });
    return [make("p", { className: "quiet", textContent: words }), ...failure, make("div", { className: "row" }, forget, only), row];
  }

  _outcome({ before, after, share, error }) {
    const words = share
      ? "On corrections that were held out this time, before and after."
      : "On corrections that were held out nothing was better than the model that there was, so it has not changed.";
    const button = (textContent, className, path) => {
      const made = make("button", { textContent, className });
      made.addEventListener("click", async () => {
        try {
          const answer = await send("POST", `/api/teaching/${path}`);
          this.onChange(answer.model || null);
        } catch (error) {
          complain(error);
        }
      });
      return made;
    };
    if (error) {
      return [make("p", { className: "error", textContent: error }), make("div", { className: "actions" }, button("Drop it", "main", "drop"))];
    }
    const line = make("p", { className: "scores", textContent: `F1 ${before.toFixed(3)} → ${after.toFixed(3)}` });
    const keep = button("Keep the new model", share ? "main" : "", "keep");
    return [line, make("p", { className: "quiet", textContent: words }),
      make("div", { className: "actions" }, button("Drop it", share ? "" : "main", "drop"), keep)];
  }
}

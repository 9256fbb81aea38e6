// How far a job is, with a button that stops it.

import { send } from "./api.js";
import { complain, duration, make } from "./dom.js";

export class Progress {
  /** number: of the job. starting: what is said until the job itself says something. */
  constructor(number, starting) {
    this.number = number;
    this.starting = starting;
    this.bar = make("progress", { max: 1 });
    this.words = make("p", { className: "quiet" });
    const stop = make("button", { textContent: "Stop" });
    stop.addEventListener("click", async () => {
      stop.disabled = true;
      try {
        await send("DELETE", `/api/jobs/${number}`);
      } catch (error) {
        stop.disabled = false;
        complain(error);
      }
    });
    this.elements = [this.bar, this.words, make("div", { className: "actions" }, stop)];
  }

  /** Bring it up to date; its elements stay the same, so that the button can be pressed meanwhile. */
  tell(job) {
    if (job.share === null) this.bar.removeAttribute("value");
    else this.bar.value = job.share;
    this.words.textContent = job.state === "waiting" ? "Waiting for other work to end" : `${job.stage || this.starting} ${duration(job.seconds_left)}`;
  }
}

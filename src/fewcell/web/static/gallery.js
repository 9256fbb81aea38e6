// The images of the folder, and files that are dropped on the page.

import { ask, imagePath } from "./api.js";
import { byId, complain, make } from "./dom.js";

export class Gallery {
  /** onChoose(name), onAdded(name). */
  constructor(onChoose, onAdded) {
    Object.assign(this, { onChoose, onAdded, items: new Map(), uploads: 0 });
    const input = byId("file");
    input.addEventListener("change", () => { this.add([...input.files]); input.value = ""; });
    byId("add").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // the space bar scrolls
      input.click();
    });
    let depth = 0;
    const over = (change) => { depth += change; byId("drop").hidden = depth <= 0; };
    document.addEventListener("dragenter", () => over(1));
    document.addEventListener("dragleave", () => over(-1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      byId("drop").hidden = true;
      this.add([...event.dataTransfer.files]);
    });
  }

  async add(files) {
    for (const file of files) {
      this.uploads += 1;
      byId("busy").textContent = `Adding ${file.name} …`;
      try {
        await ask(imagePath(file.name), { method: "PUT", body: file });
        this.onAdded(file.name);
      } catch (error) {
        complain(error);
      } finally {
        this.uploads -= 1;
      }
    }
  }

  show(images, chosen, jobs) {
    const names = new Set(images.map(({ name }) => name));
    for (const [name, item] of this.items) {
      if (!names.has(name)) { item.remove(); this.items.delete(name); }
    }
    const list = byId("images");
    images.forEach(({ name, segmented_by: models }, i) => {
      const item = this.items.get(name) || this._item(name);
      if (list.children[i] !== item) list.insertBefore(item, list.children[i] || null);
      const job = jobs.filter((one) => one.image === name).pop();
      const state = job && ["waiting", "working"].includes(job.state) ? job.state : models.length ? "segmented" : "";
      item.querySelector("small").textContent = state;
      item.firstChild.setAttribute("aria-current", String(name === chosen));
    });
  }

  _item(name) {
    const words = make("span", {}, make("span", { className: "name", textContent: name }), make("small"));
    const picture = make("img", { alt: "", loading: "lazy", src: `${imagePath(name)}/thumbnail` });
    picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "none" })));
    const button = make("button", { title: name }, picture, words);
    button.addEventListener("click", () => this.onChoose(name));
    const item = make("li", {}, button);
    this.items.set(name, item);
    return item;
  }
}

// Small things for the page's elements. Text goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

let hiding;

/** Say what went wrong, for a while. */
export function complain(error) {
  const toast = byId("toast");
  toast.textContent = error.message || String(error);
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { toast.hidden = true; }, 9000);
}

/** A number with as many digits as a table has room for. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds > 90 ? `${Math.round(seconds / 60)} min left` : `${Math.ceil(seconds)} s left`;
}

/** Fill a choice, and keep what was chosen where that is still there. */
export function fill(select, options, chosen) {
  const value = chosen ?? select.value;
  select.replaceChildren(...options.map(([name, words]) => make("option", { value: name, textContent: words })));
  if (options.some(([name]) => name === value)) select.value = value;
}

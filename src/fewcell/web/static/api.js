// Requests to the server. What it refuses becomes an Error with its message.

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is fewcell serve still running?");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let message = text;
  try {
    message = JSON.parse(text).error;
  } catch { /* plain text */ }
  throw Object.assign(new Error(message || `The server answered ${answer.status}.`), { status: answer.status });
}

/** Fetch a file, and let the browser save it under the name that the server gives it. */
export async function save(path) {
  const answer = await ask(path);
  const said = answer.headers.get("Content-Disposition") || "";
  const [, encoded, plain] = /filename\*=utf-8''([^;]+)|filename="([^"]*)"/i.exec(said) || [];
  const address = URL.createObjectURL(await answer.blob());
  const link = Object.assign(document.createElement("a"), { href: address, download: encoded ? decodeURIComponent(encoded) : plain || "cells" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

export async function get(path) {
  return (await ask(path)).json();
}

export async function send(method, path, body) {
  const json = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await ask(path, { method, ...json })).json();
}

export const imagePath = (name) => `/api/images/${encodeURIComponent(name)}`;
export const cellsPath = (name, model) => `${imagePath(name)}/cells/${encodeURIComponent(model)}`;

/** The page over `molar-device.js`: somebody says what they had, and sees what would suit them next. */
import { load } from "./molar-device.js";

const KEPT = "molar-device-history";
const MOST_FOUND = 8;

const at = (id) => document.getElementById(id);
const history = [];
let shop;

try {
  const began = performance.now();
  shop = await load("./");
  at("status").textContent = `Ready after ${Math.round(performance.now() - began)} ms. From here on nothing is sent.`;
  await begin();
} catch (error) {
  at("status").textContent = `It cannot be loaded: ${error.message}`;
  throw error;
}

async function begin() {
  const every = shop.items();
  at("about").textContent = `${every.length.toLocaleString()} items as of ${shop.made.toLocaleString()}, ${shop.generation}.`;
  at("left-out").replaceChildren(...shop.leftOut.map((text) => element("li", text)));
  const kept = JSON.parse(localStorage.getItem(KEPT) ?? "null");
  at("keep").checked = kept !== null;
  history.push(...(kept ?? []).filter((id) => shop.item(id)));
  const words = every.map((item) => [`${item.title ?? ""} ${item.item_id}`.toLocaleLowerCase(), item]);
  at("search").addEventListener("input", () => find(words));
  at("keep").addEventListener("change", keep);
  at("forget").addEventListener("click", forget);
  at("newer").addEventListener("click", askWhetherNewer);
  for (const id of ["search", "keep", "forget", "newer"]) at(id).disabled = false;
  await show();
}

function find(words) {
  const asked = at("search").value.trim().toLocaleLowerCase();
  const found = asked ? words.filter(([text]) => text.includes(asked)).slice(0, MOST_FOUND) : [];
  at("found").replaceChildren(...found.map(([, item]) => line(item, "I had this", () => add(item))));
}

async function add(item) {
  history.push(item.item_id);
  at("search").value = "";
  at("found").replaceChildren();
  keep();
  await show();
  at("search").focus();
}

async function remove(place) {
  history.splice(place, 1);
  keep();
  await show();
}

async function forget() {
  history.length = 0;
  at("keep").checked = false;
  keep();
  await show();
}

function keep() {
  if (at("keep").checked) localStorage.setItem(KEPT, JSON.stringify(history));
  else localStorage.removeItem(KEPT);
}

async function show() {
  const lines = history.map((id, place) => line(shop.item(id), "Remove", () => remove(place)));
  at("had").replaceChildren(...lines.reverse());
  const began = performance.now();
  const { basis, items } = await shop.recommend(history);
  const took = performance.now() - began;
  at("list-title").textContent = basis === "popularity" ? "What is popular" : "What would suit me next";
  at("list").replaceChildren(...items.map((item) => line(item, "I had this", () => add(item))));
  at("took").textContent = `Made here in ${took.toFixed(1)} ms.`;
}

async function askWhetherNewer() {
  try {
    at("current").textContent = (await shop.isCurrent()) ? "This is the newest one." : "Yes: load the page again.";
  } catch {
    at("current").textContent = "The shop cannot be reached now.";
  }
}

function line(item, action, act) {
  const what = element("span", item.title ?? item.item_id);
  what.className = "what";
  const fields = Object.entries(item.payload).filter(([, value]) => value !== null);
  if (fields.length) {
    const told = element("span", fields.map(([name, value]) => `${name}: ${[value].flat().join(", ")}`).join(" · "));
    told.className = "fields";
    what.append(told);
  }
  const button = element("button", action);
  button.type = "button";
  button.setAttribute("aria-label", `${action}: ${item.title ?? item.item_id}`);
  button.addEventListener("click", act);
  const one = document.createElement("li");
  if (item.photo) one.append(Object.assign(document.createElement("img"), { src: item.photo, alt: "" }));
  one.append(what, button);
  return one;
}

function element(name, text) {
  return Object.assign(document.createElement(name), { textContent: text });
}

// The page of the demo shop. It asks the HTTP API as any shop would, and /shop/feed for what the visitors did.

const LEGEND = {
  content_tower: "looks and words",
  id_tower: "people with such histories",
  sequential: "what follows what",
  ease: "what goes together",
  item_knn: "what goes together",
  content_knn: "similar things",
  popularity: "popular now",
  cold_start: "new here",
};
const DID = { click: "looked at", view: "looked at", purchase: "bought" };
const FEED = 40; // lines
const SHELF = 24; // items at once
const FOUND = 48; // items of a search
const POLL = 700; // milliseconds
const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let shop, items, places; // the shop as /shop/shop.json tells it
let people = []; // "you" first
let person; // whose list is shown
let shown = []; // the list, as the API told it
let asked = 0; // lists that were asked for: the last one counts
let after = 0; // the last thing of the feed
let until = 0; // when the visitors leave
let events = 0;
const took = []; // milliseconds from event to list, the latest last
const shelf = { category: null, most: SHELF, found: null }; // found: ids of a search, the best first

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// What is too much for the server now is asked again when it says so; an event that comes twice counts once.
async function post(path, body, again = 3) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (answer.status === 503 && again > 0) {
    await pause(1000 * (Number(answer.headers.get("retry-after")) || 1));
    return post(path, body, again - 1);
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(`${told.detail}; ${told.remedy}`);
  return told;
}

const listOf = (one, more = {}) =>
  post("/v1/recommendations", { ...one.sent, k: places, explain: true, placement: "shop", ...more });

function noticed(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

/* The list */

function photo(id) {
  const item = items.get(id);
  if (!item.photo) return element("span", { className: "photo none", title: item.title }, "no photo");
  return element("img", { className: "photo", src: `/shop/photos/${id}`, alt: "", loading: "lazy", title: item.title });
}

function doing(id) {
  const button = (label, event, className) =>
    element("button", { type: "button", className, ariaLabel: `${label} ${items.get(id).title}`, onclick: () => act(event, id) }, label);
  return element("div", { className: "does" }, button("Look", "view", "look"), button("Buy", "purchase", "buy"));
}

function bar(item) {
  const parts = Object.entries(item.parts ?? {}).filter(([, value]) => value > 0);
  const sum = parts.reduce((total, [, value]) => total + value, 0);
  if (!sum) return null;
  const words = parts.map(([name, value]) => `${LEGEND[name] ?? name} ${value.toFixed(2)}`).join(", ");
  const made = element("div", { className: "bar", title: words, role: "img", ariaLabel: `Score: ${words}` });
  for (const name of Object.keys(LEGEND)) {
    const value = item.parts[name] ?? 0;
    if (value <= 0) continue;
    const part = element("i", { className: name });
    part.style.width = `${(100 * value) / sum}%`;
    made.append(part);
  }
  return made;
}

function moved(id, place, former) {
  if (!former.length) return null;
  const before = former.indexOf(id);
  if (before < 0) return element("span", { className: "moved" }, "new");
  return before > place ? element("span", { className: "moved", ariaLabel: `up ${before - place}` }, `↑ ${before - place}`) : null;
}

function card(item, place, former) {
  const id = item.item_id;
  return element(
    "li",
    { className: "card", "data-item": id },
    photo(id),
    element("span", { className: "badges" }, element("span", { className: "rank" }, `${place + 1}`), moved(id, place, former)),
    element(
      "div",
      { className: "text" },
      element("p", { className: "name" }, item.title, element("span", { className: "price" }, items.get(id).price.toFixed(2))),
      item.reasons.length ? element("p", { className: "why" }, item.reasons.join(" ")) : null,
      bar(item),
      person.you ? doing(id) : null,
    ),
  );
}

function show(told, former) {
  const cards = () => [...$("list").children];
  const were = new Map(cards().map((one) => [one.dataset.item, one.getBoundingClientRect()]));
  const focused = document.activeElement?.closest?.("#list .card")?.dataset.item;
  shown = told.items;
  $("list").replaceChildren(...shown.map((item, place) => card(item, place, former)));
  if (focused) (cards().find((one) => one.dataset.item === focused)?.querySelector("button") ?? $("list")).focus({ preventScroll: true });
  const parts = Object.keys(LEGEND).filter((name) => shown.some((item) => item.parts?.[name] > 0));
  $("legend").replaceChildren(...parts.map((name) => element("li", {}, element("i", { className: name }), LEGEND[name])));
  if (calm.matches || !former.length) return;
  for (const one of cards()) {
    const was = were.get(one.dataset.item);
    const is = one.getBoundingClientRect();
    const from = was
      ? { transform: `translate(${was.x - is.x}px, ${was.y - is.y}px)` }
      : { opacity: 0, transform: "scale(.9)" };
    one.animate([from, { opacity: 1, transform: "none" }], { duration: 450, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }
}

async function refresh(one, { fresh = false, ...more } = {}) {
  const turn = ++asked;
  const told = await listOf(one, more);
  if (turn === asked && one === person) show(told, fresh ? [] : shown.map((item) => item.item_id));
  return told;
}

/* Who it is for */

function face(one) {
  return element("span", { className: `face f${people.indexOf(one)}`, ariaHidden: "true" }, one.name[0]);
}

function about(one) {
  if (one.you) {
    return [
      "You are anonymous to the shop: a random id of this page, no cookie. ",
      element("b", {}, "Look at something or buy it"),
      ", and your list is made again at once. ",
      element("button", { type: "button", onclick: startOver }, "Start over"),
    ];
  }
  const known = one.sent.user_id;
  const first = !known ? " is a stranger: an id that the shop had never seen" : one.bought.length ? ` (${known}) bought here before` : ` (${known}) has an account and never bought`;
  return [element("b", {}, one.name), `${first}. Likes, and tells nobody: `, element("b", {}, one.likes.join(", ")), "."];
}

function tell() {
  $("title").textContent = person.you ? "For you" : `For ${person.name}`;
  $("about").replaceChildren(...about(person));
  const past = person.past.slice(0, 14).map(([id, event]) => {
    const made = photo(id);
    if (event !== "purchase") made.classList.add("looked");
    made.title = `${event === "purchase" ? "bought" : "looked at"}: ${made.title}`;
    return made;
  });
  $("history").replaceChildren(...(past.length ? ["So far", ...past] : [person.you ? "Nothing yet: these are what most people took." : "Nothing yet."]));
  for (const one of people) one.chip.ariaPressed = String(one === person);
}

async function choose(one) {
  if (one === person) return;
  person = one;
  $("took").textContent = "";
  tell();
  await attempt(() => refresh(one, { fresh: true }));
}

async function startOver() {
  Object.assign(people[0], { sent: { anonymous_id: `you-${crypto.randomUUID()}` }, past: [] });
  person = null;
  await choose(people[0]);
}

/* What happens */

function changes(former, told) {
  const count = told.items.filter((item) => !former.includes(item.item_id)).length;
  return count ? `${count} of ${told.items.length} changed` : "same items";
}

const inTime = (milliseconds) => `${milliseconds.toFixed(0)}\u00a0ms`;

function timed(milliseconds) {
  took.push(milliseconds);
  const last = took.slice(-20).sort((a, b) => a - b);
  $("median").textContent = inTime(last[Math.floor(last.length / 2)]);
  $("slowest").textContent = inTime(last.at(-1));
}

function counted() {
  $("events").textContent = (events += 1).toLocaleString("en");
}

async function act(event, id) {
  const you = people[0];
  if (person !== you) await choose(you);
  const former = shown.map((item) => item.item_id);
  for (const button of document.querySelectorAll(".does button")) button.disabled = true;
  await attempt(async () => {
    const began = performance.now();
    const { seq } = await post("/v1/events", { event_id: crypto.randomUUID(), event, item_id: id, ...you.sent });
    const told = await listOf(you, { wait_for: seq });
    const milliseconds = performance.now() - began;
    asked += 1;
    you.past.unshift([id, event]);
    if (person === you) {
      show(told, former);
      tell();
      $("took").textContent = `${changes(former, told)} · ${inTime(milliseconds)} from event to list`;
    }
    counted();
    timed(milliseconds);
    line({ one: you, event, id, then: `${changes(former, told)} · ${inTime(milliseconds)}` });
  });
  for (const button of document.querySelectorAll(".does button")) button.disabled = false;
}

function line({ one, event, id, then }) {
  $("feed").querySelector(".empty")?.remove();
  const who = element("b", {}, one.you ? "You" : one.name);
  const did = id
    ? [element("span", { className: event === "purchase" ? "bought" : "" }, ` ${DID[event]} `), items.get(id).title]
    : [" came by"];
  const text = element("span", {}, who, ...did, then ? element("span", { className: "then" }, element("br"), then) : null);
  const made = element("li", { className: "fresh" }, face(one), text, id ? photo(id) : null);
  $("feed").prepend(made);
  while ($("feed").children.length > FEED) $("feed").lastElementChild.remove();
}

function happened({ who, event, item_id: id, changed, milliseconds }) {
  const one = people.find((other) => other.name === who);
  counted();
  let then = null;
  if (id) {
    one.past.unshift([id, event]);
    timed(milliseconds);
    then = `${changed ? `${changed} of ${places} changed` : "same items"} · ${inTime(milliseconds)}`;
    one.chip.classList.remove("acted");
    void one.chip.offsetWidth; // the animation begins anew
    one.chip.classList.add("acted");
  }
  line({ one, event, id, then });
  return id ? one : null;
}

async function poll() {
  const told = await (await fetch(`/shop/feed?after=${after}`)).json();
  until = told.until;
  const first = after === 0;
  const acted = told.happened.map(happened);
  after = told.happened.at(-1)?.n ?? after;
  if (!acted.includes(person)) return;
  const last = told.happened.findLast((one) => one.who === person.name && one.item_id);
  tell();
  if (!first) $("took").textContent = `${DID[last.event]} ${items.get(last.item_id).title} · ${inTime(last.milliseconds)} from event to list`;
  const taken = last.event === "purchase" && [...$("list").children].find((one) => one.dataset.item === last.item_id);
  if (taken) {
    taken.dataset.taken = `${person.name} bought it`;
    taken.classList.add("taken");
    await pause(calm.matches ? 0 : 600);
  }
  if (!person.you) await refresh(person);
}

function clock() {
  const left = Math.max(0, Math.round(until - Date.now() / 1000));
  if (until) $("until").textContent = left ? `stay ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "have left";
}

async function attempt(work) {
  try {
    await work();
    noticed("");
  } catch (error) {
    noticed(error instanceof TypeError ? "The server does not answer: it may have been ended." : error.message);
  }
}

/* The whole shop */

function fillShelf() {
  const all = shelf.found ? shelf.found.map((id) => items.get(id)) : [...items.values()];
  const found = all.filter((item) => !shelf.category || item.category === shelf.category);
  $("shelf").replaceChildren(
    ...found.slice(0, shelf.most).map((item) =>
      element(
        "li",
        { className: "card" },
        photo(item.item_id),
        element(
          "div",
          { className: "text" },
          element("p", { className: "name" }, item.title, element("span", { className: "price" }, item.price.toFixed(2))),
          item.description ? element("p", { className: "why", title: item.description }, item.description) : null,
          doing(item.item_id),
        ),
      ),
    ),
  );
  $("more").hidden = found.length <= shelf.most;
}

function fillFilters() {
  const categories = [null, ...new Set([...items.values()].map((item) => item.category).sort())];
  $("filters").replaceChildren(
    ...categories.map((category) => {
      const chosen = () => {
        Object.assign(shelf, { category, most: SHELF });
        for (const one of $("filters").children) one.ariaPressed = String(one === made);
        fillShelf();
      };
      const made = element("button", { type: "button", ariaPressed: String(category === null), onclick: chosen }, category ?? "Everything");
      return made;
    }),
  );
  $("more").onclick = () => {
    shelf.most += SHELF;
    fillShelf();
  };
}

async function search() {
  const text = $("search").value.trim();
  if (!text) {
    shelf.found = null;
    $("found").textContent = "";
    return fillShelf();
  }
  const began = performance.now();
  const told = await post("/v1/search", { text, k: FOUND, anonymous_id: people[0].sent.anonymous_id });
  if (text !== $("search").value.trim()) return; // something else was typed meanwhile
  shelf.found = told.items.map((item) => item.item_id);
  $("found").textContent = `${told.notes[0] ?? `the best ${shelf.found.length}`} · ${inTime(performance.now() - began)}`;
  fillShelf();
}

function searchSoon() {
  clearTimeout(shelf.typing);
  shelf.typing = setTimeout(() => attempt(search), 250);
}

/* Everything in its order */

async function begin() {
  shop = await (await fetch("/shop/shop.json")).json();
  places = shop.places;
  items = new Map(shop.items.map((item) => [item.item_id, item]));
  people = [{ name: "You", you: true }, ...shop.people.map((one) => ({ ...one, past: one.bought.map((id) => [id, "purchase"]) }))];
  for (const one of people) {
    one.chip = element("button", { type: "button", className: "person", onclick: () => choose(one) }, face(one), one.name);
  }
  $("people").append(...people.map((one) => one.chip));
  $("feed").append(element("li", { className: "empty" }, "The first visitors are on their way."));
  fillFilters();
  fillShelf();
  $("search").addEventListener("input", searchSoon);
  const wanted = people.find((one) => `#${one.name.toLowerCase()}` === location.hash);
  await startOver();
  if (wanted) await choose(wanted);
  setInterval(clock, 500);
  for (;;) {
    await attempt(poll);
    if (!shown.length) await attempt(() => refresh(person, { fresh: true })); // the shop was opening
    await pause(POLL);
  }
}

await attempt(begin);

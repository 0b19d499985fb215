// The page for trying: everything from data is put in as text, never as HTML.
const token = document.querySelector("meta[name=isthmus-token]").content;
const page = document.getElementById("try");
const mayClick = page.dataset.ingest === "yes";
const mayList = page.dataset.admin === "yes";
const at = (id) => document.getElementById(id);
const COLOURS = ["#0d9488", "#d98324", "#6d78d6", "#c2588f", "#5f9e3f", "#3a95c9"];
const K = 10;

// Whose list it is: {id} of somebody known, or {visitor, items} of somebody described.
let who = null;
let answer = null;
let turn = 0;

function element(tag, content = {}, ...children) {
  const { text, ...attributes } = content;
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function ask(path, content) {
  const options = content === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json", "x-isthmus-token": token },
    body: JSON.stringify(content),
  };
  const response = await fetch(path, { redirect: "error", ...options });
  const found = await response.json();
  if (response.ok) return found;
  const problem = found.error;
  throw new Error(problem.hint ? `${problem.what}. ${problem.hint}` : problem.what);
}

function tell(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    tell(`That did not work: ${error.message}`, true);
  }
}

const named = (item) => item.title ?? item.item_id;
const chosenDomain = () => document.querySelector("input[name=domain]:checked").value;
const query = (path, values) => `${path}?${new URLSearchParams(values)}`;

function later(work, wait = 200) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait);
  };
}

// History

function showHistory(total, domains) {
  const parts = [element("p", { class: "quiet", text: total ? `${total} ${total === 1 ? "event" : "events"}, the latest first.` : "Nothing is known of them yet." })];
  for (const domain of domains) {
    if (!domain.items.length) continue;
    const rows = domain.items.map((item) => element("li", {}, element("bdi", { text: named(item) }), ...(item.category ? [element("small", { text: item.category })] : [])));
    const more = domain.n_events - domain.items.length;
    if (more > 0) rows.push(element("li", { class: "quiet", text: `and ${more} before` }));
    parts.push(element("h3", {}, element("bdi", { text: domain.name }), element("span", { class: "quiet", text: ` ${domain.n_events}` })));
    parts.push(element("ul", { class: "plain" }, ...rows));
  }
  at("history").replaceChildren(...parts);
}

async function renewHistory() {
  if (who.id !== undefined) {
    const found = await ask(query("/try/history", { user_id: who.id }));
    showHistory(found.n_events, found.domains);
    return;
  }
  const names = [...new Set(who.items.map((item) => item.domain))];
  const domains = names.map((name) => {
    const items = who.items.filter((item) => item.domain === name).reverse();
    return { name, n_events: items.length, items };
  });
  showHistory(who.items.length, domains);
}

// Recommendations

async function renewList() {
  const mine = ++turn;
  const asked = { domains: [chosenDomain()], k: K, explain: true };
  if (who.id !== undefined) asked.user_id = who.id;
  else asked.history = who.items.map(({ domain, item_id }) => ({ domain, item_id }));
  const found = await ask("/v1/recommend", asked);
  // An answer that is overtaken by a later question is not shown.
  if (mine !== turn) return null;
  const before = answer && answer.lists[0].domain === found.lists[0].domain ? answer.lists[0].items.map((item) => item.item_id) : null;
  answer = found;
  const list = found.lists[0];
  at("basis").replaceChildren(element("bdi", { text: `Rests on: ${list.basis}. Version ${found.model_version}.` }));
  const parts = [...new Set(list.items.flatMap((item) => Object.keys(item.parts)))].sort();
  const most = Math.max(1e-9, ...list.items.map((item) => Object.values(item.parts).reduce((sum, value) => sum + Math.max(value, 0), 0)));
  at("list").replaceChildren(...list.items.map((item, place) => row(item, place, before, parts, most)));
  at("legend").replaceChildren(...parts.map((name, n) => element("span", {}, element("i", { style: `background:${COLOURS[n % COLOURS.length]}` }), name)));
  return before && list.items.filter((item, place) => before[place] !== item.item_id).length;
}

function row(item, place, before, parts, most) {
  const title = element("button", { type: "button", class: "offer", "data-item": item.item_id }, element("bdi", { text: named(item) }));
  title.disabled = !mayClick;
  title.addEventListener("click", () => attempt(() => choose(item)));
  const head = element("p", { class: "head" }, title);
  const old = before ? before.indexOf(item.item_id) : place;
  if (old < 0) head.append(element("span", { class: "tag good", text: "new" }));
  else if (old !== place) head.append(element("span", { class: "tag", text: `${old > place ? "▲" : "▼"} ${Math.abs(old - place)}`, "aria-label": `${old > place ? "up" : "down"} by ${Math.abs(old - place)}` }));
  const bar = element("div", { class: "parts", role: "img", "aria-label": parts.map((name) => `${name} ${(item.parts[name] ?? 0).toFixed(2)}`).join(", ") });
  parts.forEach((name, n) => {
    const width = Math.max(item.parts[name] ?? 0, 0) / most;
    if (width) bar.append(element("i", { style: `flex-basis:${(100 * width).toFixed(1)}%;background:${COLOURS[n % COLOURS.length]}` }));
  });
  const made = element("li", { "data-item": item.item_id }, head);
  if (item.category) made.append(element("small", { text: item.category }));
  made.append(element("p", { class: "why" }, element("bdi", { text: item.why || "no reason known" })), bar);
  if (old < 0) made.classList.add("fresh");
  return made;
}

async function choose(item) {
  const domain = answer.lists[0].domain;
  const user = who.id ?? who.visitor;
  tell("Recording…");
  await ask("/v1/events", {
    event_id: crypto.randomUUID ? crypto.randomUUID() : unique(),
    user_id: user,
    domain,
    item_id: item.item_id,
    kind: "click",
    recommendation_id: answer.recommendation_id,
  });
  if (who.visitor) who.items.push({ domain, ...item });
  const [, changed] = await Promise.all([renewHistory(), renewList()]);
  if (changed !== null) tell(`Recorded “${named(item)}”. ${changed} of ${answer.lists[0].items.length} places changed.`);
  // The button that was pressed is gone; the keyboard goes on at the top of the new list.
  at("list").querySelector("button")?.focus();
}

// A page that is not served over TLS, nor from this machine, has no randomUUID.
function unique() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function show(person) {
  who = person;
  answer = null;
  tell("");
  await Promise.all([renewHistory(), renewList()]);
}

// Who

async function listPeople() {
  const { users } = await ask(query("/try/people", { prefix: at("user").value }));
  at("people").replaceChildren(...users.map((id) => element("option", { value: id })));
}

async function search() {
  const domain = at("in").value;
  const { items } = await ask(query("/try/items", { domain, words: at("words").value }));
  const rows = items.map((item) => {
    const add = element("button", { type: "button", class: "found-item" }, element("bdi", { text: named(item) }));
    add.addEventListener("click", () => attempt(() => describe({ domain, ...item })));
    return element("li", {}, add);
  });
  if (!rows.length && at("words").value.trim()) rows.push(element("li", { class: "quiet", text: "No title holds these words." }));
  at("found").replaceChildren(...rows);
  at("found").hidden = !rows.length;
}

async function describe(item) {
  const items = who && who.visitor ? [...who.items, item] : [item];
  const visitor = who && who.visitor ? who.visitor : `try-it-${unique().slice(0, 12)}`;
  at("words").value = "";
  at("found").hidden = true;
  await show({ visitor, items });
  tell(`Somebody who likes ${items.length === 1 ? `“${named(item)}”` : `${items.length} items`}; what they choose is recorded for ${visitor}.`);
  at("words").focus();
}

at("known").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("user").value.trim();
  if (id) attempt(() => show({ id }));
  else tell("Type an id first.", true);
});
at("described").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(search);
});
at("words").addEventListener("input", later(() => attempt(search)));
at("in").addEventListener("change", () => attempt(search));
for (const way of document.querySelectorAll("input[name=way]")) {
  way.addEventListener("change", () => {
    at("known").hidden = way.value !== "known";
    if (at("ids")) at("ids").hidden = way.value !== "known";
    at("described").hidden = way.value !== "described";
    at("found").hidden = true;
  });
}
for (const domain of document.querySelectorAll("input[name=domain]")) {
  domain.addEventListener("change", () => who && attempt(renewList));
}
if (mayList) {
  at("user").addEventListener("input", later(() => attempt(listPeople)));
  attempt(listPeople);
}

"use strict";
const root = document.documentElement;
root.classList.add("js");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function setUpTheme() {
  const button = document.getElementById("theme");
  let isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = isDark ? "Light" : "Dark"; };
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    isDark = !isDark;
    root.style.colorScheme = isDark ? "dark" : "light";
    name();
  });
}

function setUpChart(figure) {
  const svg = figure.querySelector("svg[data-points]");
  const points = JSON.parse(svg.dataset.points);
  const box = svg.viewBox.baseVal;
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cursor.setAttribute("class", "cursor");
  const tip = element("div", "", "tip");
  tip.setAttribute("role", "status");
  let at = -1;

  function show(index) {
    at = Math.max(0, Math.min(points.x.length - 1, index));
    const x = points.x[at];
    cursor.setAttribute("d", `M${x} 22V${box.height - 30}`);
    svg.append(cursor);
    const [step, origin] = [points.steps[at], points.origin];
    const whole = origin ? `, ${step + origin} of the run` : "";
    tip.replaceChildren(element("div", `step ${step}${whole}`));
    points.labels.forEach((label, series) => {
      const value = points.rows[at][series];
      if (value === null) return;
      const row = element("div");
      row.append(element("span", label), element("b", String(value)));
      tip.append(row);
    });
    figure.append(tip);
    const pixel = 14 + x * svg.clientWidth / box.width;
    const room = figure.clientWidth - tip.offsetWidth - 8;
    const side = pixel + 12 > room ? pixel - tip.offsetWidth - 12 : pixel + 12;
    tip.style.left = `${Math.max(8, side)}px`;
    tip.style.top = "46px";
  }
  function hide() { cursor.remove(); tip.remove(); }

  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const x = (event.clientX - frame.left) * box.width / frame.width;
    let nearest = 0;
    points.x.forEach((candidate, index) => {
      if (Math.abs(candidate - x) < Math.abs(points.x[nearest] - x)) nearest = index;
    });
    show(nearest);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const stride = event.shiftKey ? 10 : 1;
    const moves = {
      ArrowLeft: at - stride, ArrowRight: at + stride,
      Home: 0, End: points.x.length - 1,
    };
    if (event.key in moves) { event.preventDefault(); show(moves[event.key]); }
    if (event.key === "Escape") hide();
  });
}

function setUpBrowser() {
  const form = document.getElementById("filters");
  if (!form) return;
  const articles = [...document.querySelectorAll("#reader article")];
  const list = document.querySelector("#list ul");
  const count = document.getElementById("count");
  const fields = form.elements;
  const question = (article) => article.querySelector("h3").textContent;
  const steps = [...new Set(articles.map((article) => article.dataset.step))];
  const places = new Map(articles.map(({ dataset }) => [dataset.step, dataset.place]));
  places.forEach((place, step) => fields.step.append(new Option(place, step)));
  fields.step.append(new Option("all", ""));
  fields.step.value = steps[steps.length - 1];
  form.hidden = false;
  document.getElementById("list").hidden = false;
  const limit = (field, otherwise) => field.value === "" ? otherwise : +field.value;
  let buttons = [];

  function read(article) {
    articles.forEach((other) => { other.hidden = other !== article; });
    buttons.forEach((button) => {
      button.setAttribute("aria-current", String(button.article === article));
    });
  }
  function matches({ dataset }, text) {
    return (!fields.step.value || dataset.step === fields.step.value)
      && (!fields.status.value || dataset.status === fields.status.value)
      && (!fields.sample.value || dataset.sample === fields.sample.value)
      && +dataset.reward >= limit(fields.low, -Infinity)
      && +dataset.reward <= limit(fields.high, Infinity)
      && text.toLowerCase().includes(fields.text.value.trim().toLowerCase());
  }
  function makeButton(article) {
    const { place, status, reward, sample } = article.dataset;
    const button = element("button");
    button.type = "button";
    button.article = article;
    const about = `sample ${sample} · ${status.replaceAll("_", " ")}`;
    button.append(
      element("b", String(+(+reward).toFixed(3))),
      element("span", question(article)),
      element("small", fields.step.value ? about : `${place} · ${about}`),
    );
    button.addEventListener("click", () => read(article));
    const item = element("li");
    item.append(button);
    list.append(item);
    return button;
  }
  function refresh() {
    const found = articles.filter((article) => matches(article, question(article)));
    const sign = { best: -1, worst: 1, stream: 0 }[fields.order.value];
    found.sort((a, b) => sign * (a.dataset.reward - b.dataset.reward));
    list.replaceChildren();
    buttons = found.map(makeButton);
    count.textContent = `${found.length} of ${articles.length} trajectories`;
    read(found[0]);
  }
  list.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    const next = buttons[buttons.indexOf(document.activeElement) + move];
    if (!move || !next) return;
    event.preventDefault();
    next.focus();
    read(next.article);
  });
  form.addEventListener("input", refresh);
  form.addEventListener("submit", (event) => event.preventDefault());
  refresh();
}

setUpTheme();
document.querySelectorAll(".chart").forEach(setUpChart);
setUpBrowser();

// Rules are put in another order by dragging; the buttons do the same.
"use strict";
(() => {
  const list = document.getElementById("rules"), form = document.getElementById("rules-form");
  if (!list || !form) return;
  let from = null;
  const row = (event) => event.target.closest("li[data-place]");
  const mark = (own) => { for (const one of list.children) one.classList.toggle("over", one === own); };
  list.addEventListener("dragstart", (event) => { from = row(event); event.dataTransfer.setData("text/plain", ""); });
  list.addEventListener("dragover", (event) => { if (from) { event.preventDefault(); mark(row(event)); } });
  list.addEventListener("dragend", () => { from = null; mark(null); });
  list.addEventListener("drop", (event) => {
    const to = row(event);
    if (!from || !to || to === from) return;
    event.preventDefault();
    const step = document.createElement("input");
    Object.assign(step, { type: "hidden", name: "do", value: `move:${from.dataset.place}:${to.dataset.place}` });
    form.append(step);
    form.submit();
  });
})();

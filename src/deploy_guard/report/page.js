"use strict";
// The page is complete without this: it adds filters, search, and opens what a link leads to.
(() => {
  const open = (element) => {
    for (let e = element; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
  };
  const follow = () => {
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* not a link of ours */ }
    const target = id && document.getElementById(id);
    if (!target) return;
    if (target.hidden) apply("", "");
    open(target);
    target.querySelectorAll("details").forEach((e) => { e.open = true; });
    target.scrollIntoView();
  };
  const tools = document.querySelector(".tools");
  const rows = [...document.querySelectorAll(".group li[id]")];
  const groups = [...document.querySelectorAll(".group")].map((e) => ({ e, was: e.open, rows: [...e.querySelectorAll("li[id]")] }));
  const buttons = tools ? [...tools.querySelectorAll("button")] : [];
  const search = document.getElementById("search");
  const count = document.getElementById("count");
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const apply = (kind, words) => {
    buttons.forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.show === kind)));
    if (search.value !== words) search.value = words;
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const group of groups) {
      let here = 0;
      for (const row of group.rows) {
        const fits = (!kind || row.dataset.o === kind) && wanted.every((w) => text(row).includes(w));
        if (row.hidden === fits) row.hidden = !fits;
        here += fits;
      }
      group.e.hidden = !here;
      group.e.open = kind || wanted.length ? here > 0 : group.was;
      shown += here;
    }
    count.textContent = `${shown} of ${rows.length} shown`;
  };
  if (tools) {
    tools.hidden = false;
    const kind = () => buttons.find((b) => b.getAttribute("aria-pressed") === "true").dataset.show;
    buttons.forEach((b) => b.addEventListener("click", () => apply(b.dataset.show, search.value)));
    search.addEventListener("input", () => apply(kind(), search.value));
  }
  addEventListener("hashchange", follow);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("li[data-o]:not([data-o=passed]):not([data-o=not-applicable])").forEach((row) => {
      open(row);
      row.querySelectorAll("details").forEach((e) => { e.open = true; });
    });
  });
  follow();
})();

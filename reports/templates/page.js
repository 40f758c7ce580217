"use strict";

// Comfort for a page that is complete without it: tables that sort, folds that open for the
// printer, and boxes that take the focus of a keyboard only where there is something to scroll.
(() => {
  const LEADING = /^[<>≤≥~]?\s*([-+−]?(?:\d[\d,]*)?(?:\.\d+)?(?:e[-+]?\d+)?)/i;
  const letters = new Intl.Collator(document.documentElement.lang, { numeric: true });

  // What a cell is sorted by: numbers, then what is no number where numbers are, then nothing.
  function key(cell, numeric) {
    const text = cell.textContent.trim();
    if (!text) return { rank: 2, value: "" };
    const number = Number.parseFloat(LEADING.exec(text)[1].replaceAll(",", "").replace("−", "-"));
    if (numeric && !Number.isNaN(number)) return { rank: 0, value: number };
    return { rank: 1, value: text };
  }

  function compare(a, b, sign) {
    if (a.rank !== b.rank) return a.rank - b.rank;
    return sign * (a.rank === 0 ? a.value - b.value : letters.compare(a.value, b.value));
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    // Descending after ascending; the third click gives back the order of the report.
    const following = { ascending: "descending", descending: null };

    function sort(head, place) {
      const held = head.getAttribute("aria-sort");
      const order = held ? following[held] : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (!order) {
        body.append(...original);
        return;
      }
      head.setAttribute("aria-sort", order);
      const numeric = head.classList.contains("number");
      const sign = order === "ascending" ? 1 : -1;
      const rows = original.map((row) => ({ row, key: key(row.cells[place], numeric) }));
      rows.sort((a, b) => compare(a.key, b.key, sign));
      body.append(...rows.map(({ row }) => row));
    }

    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(head, place));
      head.append(button);
    });
  }

  for (const table of document.querySelectorAll("table.grid")) {
    if (table.tBodies[0].rows.length >= 3) sortable(table);
  }

  // On a narrow screen the letters of a wide figure are small.
  for (const drawing of document.querySelectorAll(".wide .drawing")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = "Enlarge";
    button.setAttribute("aria-label", `Enlarge ${drawing.getAttribute("aria-label")}`);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(drawing.classList.toggle("large")));
    });
    drawing.after(button);
  }

  // A box without anything to scroll is no stop on the way through the page. What is in it is
  // watched as well: it may grow while the box does not.
  const BOXES = ".scroll, .drawing[role]";
  const sizes = new ResizeObserver((entries) => {
    for (const box of new Set(entries.map(({ target }) => target.closest(BOXES)))) {
      const scrolls = box.scrollWidth > box.clientWidth;
      box.classList.toggle("scrolls", scrolls);
      if (scrolls) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(BOXES)) {
    for (const element of [box, ...box.children]) sizes.observe(element);
  }

  // What a link leads to may lie in a fold, which not every browser opens by itself.
  function unfold() {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let fold = target.closest("details:not([open])"); fold; ) {
      fold.open = true;
      fold = target.closest("details:not([open])");
      if (!fold) target.scrollIntoView();
    }
  }
  addEventListener("hashchange", unfold);
  unfold();

  // Paper does not unfold.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
  });
})();

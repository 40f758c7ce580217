// The table of samples: filters, sorting, pages, and one sample's record.
// All text from the data goes through textContent; filters are kept in the address.
(() => {
  "use strict";

  const PER_PAGE = 50;
  const REMEMBER = 300; // milliseconds without a change until the address says so
  const PREFIX = "#samples?";
  const FIELDS = ["class", "verdict", "attack", "bracket", "from", "to", "sample"];

  const element = (name) => document.getElementById(name ? `explorer-${name}` : "explorer");
  const { runs, made } = JSON.parse(element("data").textContent);
  const form = element("filters");
  const box = element("record");
  const scroll = element("scroll");
  const pages = element("pages");
  const field = Object.fromEntries(["run", ...FIELDS].map((name) => [name, element(name)]));

  let run = null; // the table that is shown, its columns as arrays
  let shown = []; // rows of it that pass the filters, in the order of the table
  let sort = { key: "sample", down: false };
  let page = 0;
  let open = null; // the row whose record is open
  let leaving = false; // the record was left for the gallery
  let timer = null;
  let lost = ""; // what was asked for and is not there

  const count = (value) => value.toLocaleString("en-US");
  const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;
  const percent = (share) => (share === null ? "" : `${Number((100 * share).toFixed(2))} %`);

  const make = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return node;
  };

  // A column is one value where all samples have the same.
  const spread = (value, rows) => (Array.isArray(value) ? value : new Array(rows).fill(value));

  const unpacked = (source) => {
    const rows = source.sample.length;
    const names = ["class", "clean", "verdict", "worst", "share", "bracket"];
    const numbers = ["radius", "bound", "draws", "forwards", "backwards"];
    const table = { ...source, rows, wrong: source.verdicts.indexOf("wrong without attack") };
    for (const name of [...names, ...(source.kind === "certificates" ? numbers : [])])
      if (source[name] !== undefined) table[name] = spread(source[name], rows);
    table.by = (source.by ?? []).map((attack) => {
      const columns = {};
      for (const [name, value] of Object.entries(attack)) columns[name] = spread(value, rows);
      // Without a column of its own, to hold is to be predicted as the label.
      columns.held ??= columns.prediction.map((taken, row) => (taken === table.class[row] ? 1 : 0));
      return columns;
    });
    table.proofs = (source.proofs ?? []).map((proof) => ({
      ...proof,
      radius: spread(proof.radius, rows),
    }));
    const worst = (column) => (row) =>
      table.worst[row] === null ? null : table.by[table.worst[row]][column][row];
    table.at = {
      sample: (row) => table.sample[row],
      class: (row) => table.class[row],
      clean: (row) => table.clean[row],
      verdict: (row) => table.verdict[row],
      bracket: (row) => table.bracket[row],
      forwards: (row) => table.forwards[row],
      worst: (row) => table.worst[row],
      taken: worst("prediction"),
      share: (row) => (table.worst[row] === null ? table.share[row] : worst("share")(row)),
      distance: table.radius ? (row) => table.radius[row] : worst("distance"),
    };
    table.columns = columnsOf(table);
    return table;
  };

  const className = (table, value) => {
    if (value === null) return "abstained";
    return table.classes[value] === undefined ? String(value) : `${value} ${table.classes[value]}`;
  };

  // key, heading, whether it is a number, and what a cell says.
  const columnsOf = (table) => {
    const { at } = table;
    const ofClass = (key) => (row) => className(table, at[key](row));
    const plainly = (key) => (row) => String(at[key](row) ?? "");
    const verdict = ["verdict", "verdict", false, (row) => table.verdicts[at.verdict(row)] ?? ""];
    if (table.kind === "certificates")
      return [
        ["class", "class", false, ofClass("class")],
        ["clean", "prediction", false, ofClass("clean")],
        verdict,
        ["distance", "radius", true, plainly("distance")],
        ["forwards", "forwards", true, (row) => count(at.forwards(row) ?? 0)],
      ];
    const columns = [
      ["class", "class", false, ofClass("class")],
      ["clean", "clean prediction", false, ofClass("clean")],
      verdict,
      ["worst", "worst attack", false, (row) => table.attacks[at.worst(row)] ?? ""],
      [
        "taken",
        "under attack",
        false,
        (row) => (at.worst(row) === null ? "" : className(table, at.taken(row))),
      ],
      ["distance", "distance", true, plainly("distance")],
    ];
    if (table.share) columns.push(["share", "draws right", true, (row) => percent(at.share(row))]);
    if (table.bracket)
      columns.push(["bracket", "bracket", false, (row) => table.states[at.bracket(row)] ?? ""]);
    return columns;
  };

  // An attack that was ended by a limit says nothing.
  const known = (table, attack, row) => table.by[attack].made[row] !== LIMITED;
  const LIMITED = 1; // a place in made, as in samples.py
  const brokenBy = (table, attack, row) =>
    table.verdict[row] !== table.wrong && known(table, attack, row) && !table.by[attack].held[row];

  // ---- filters

  // A number, or a fraction as 8/255; null where there is none.
  const numberOf = (text) => {
    const parts = text.split("/").map((part) => (part.trim() === "" ? NaN : Number(part)));
    const value = parts.length > 1 ? parts[0] / parts[1] : parts[0];
    return parts.length <= 2 && Number.isFinite(value) ? value : null;
  };

  const rangesOf = (text) => {
    const ranges = [];
    for (const part of text.split(",").filter((piece) => piece.trim() !== "")) {
      const found = /^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/.exec(part);
      if (!found) return null;
      ranges.push([Number(found[1]), Number(found[2] ?? found[1])]);
    }
    return ranges;
  };

  // What a filter is called in a sentence, by what it is set to.
  const RELATIONS = { broken: "broken by ", only: "only by " };
  const named = (name, value) => {
    if (name === "attack") {
      const [how, ...attack] = value.split(":");
      if (how === "worst") return `worst attack ${quoted(attack.join(":"))}`;
      return `attack ${quoted((RELATIONS[how] ?? how) + attack.join(":"))}`;
    }
    if (name === "class") return `class ${quoted(run.names.get(value) ?? value)}`;
    if (name === "from" || name === "to") return `${run.measure} ${name} ${value}`;
    return name === "sample" ? `samples ${value}` : `${name} ${quoted(value)}`;
  };
  const quoted = (text) => `"${text}"`;
  const listing = (words, last = "and") =>
    [words.slice(0, -1).join(", "), ...words.slice(-1)].filter(Boolean).join(` ${last} `);

  // The filters that are set, by name, each with what holds of a row that passes it; one that
  // cannot be read is marked and left out.
  const conditions = () => {
    const table = run;
    const found = [];
    const unread = [];
    const given = (name) => field[name].value.trim();
    const add = (name, holds) => found.push({ name, said: named(name, given(name)), holds });
    const mark = (name, wrong) => {
      field[name].setAttribute("aria-invalid", wrong ? "true" : "false");
      if (wrong) unread.push(given(name));
    };
    if (given("class") !== "") {
      const wanted = Number(given("class"));
      add("class", (row) => table.class[row] === wanted);
    }
    if (given("verdict") !== "") {
      const wanted = table.verdicts.indexOf(given("verdict"));
      add("verdict", (row) => table.verdict[row] === wanted);
    }
    if (given("bracket") !== "" && table.bracket) {
      const wanted = table.states.indexOf(given("bracket"));
      add("bracket", (row) => table.bracket[row] === wanted);
    }
    if (given("attack") !== "") {
      const [how, ...name] = given("attack").split(":");
      const attack = table.attacks.indexOf(name.join(":"));
      const others = table.by.map((_, other) => other).filter((other) => other !== attack);
      const alone = (row) => !others.some((one) => brokenBy(table, one, row));
      add("attack", (row) => {
        if (how === "worst") return table.worst[row] === attack;
        return brokenBy(table, attack, row) && (how !== "only" || alone(row));
      });
    }
    for (const [name, outside] of [
      ["from", (value, end) => value < end],
      ["to", (value, end) => value > end],
    ]) {
      const end = numberOf(given(name));
      mark(name, end === null && given(name) !== "");
      if (end === null) continue;
      add(name, (row) => {
        const value = table.at.distance(row);
        return value !== null && !outside(value, end);
      });
    }
    const ranges = rangesOf(given("sample"));
    mark("sample", ranges === null);
    const within = (number) => ranges.some(([a, b]) => number >= a && number <= b);
    if (ranges?.length) add("sample", (row) => within(table.sample[row]));
    return { found, unread };
  };

  const passing = (filters) => {
    const rows = [];
    for (let row = 0; row < run.rows; row += 1)
      if (filters.every(({ holds }) => holds(row))) rows.push(row);
    return rows;
  };

  // Which of the filters it is that leaves no sample.
  const reason = (filters) => {
    const alone = filters.filter((one) => passing([one]).length === 0);
    if (alone.length) return ` No sample passes ${listing(alone.map(({ said }) => said), "or")}.`;
    const without = filters
      .map((one) => [one.said, passing(filters.filter((other) => other !== one)).length])
      .filter(([, size]) => size > 0)
      .map(([said, size]) => `without ${said} there ${size === 1 ? "is" : "are"} ${count(size)}`);
    const all = ` No sample passes ${listing(filters.map(({ said }) => said))} together`;
    return without.length ? `${all}: ${listing(without)}.` : `${all}.`;
  };

  const compare = (key, down) => {
    const at = run.at[key];
    const sign = down ? -1 : 1;
    return (one, two) => {
      const [a, b] = [at(one), at(two)];
      if (a === b) return one - two;
      if (a === null) return 1; // what is not known stands last, whichever way
      if (b === null) return -1;
      return sign * (a - b);
    };
  };

  const filter = () => {
    const { found, unread } = conditions();
    shown = passing(found);
    if (sort.key !== "sample" || sort.down) shown.sort(compare(sort.key, sort.down));
    const more =
      run.missing === null
        ? "; how many more were asked for is not known"
        : run.missing > 0
          ? `; ${count(run.missing)} more have no record`
          : "";
    const left = unread.length ? ` "${unread.join('", "')}" cannot be read and is left out.` : "";
    const empty = shown.length === 0;
    element("count").textContent =
      `${count(shown.length)} of ${plural(run.rows, "sample")}${more}.` +
      `${empty ? reason(found) : ""}${left}${lost}`;
    for (const part of [scroll, pages]) part.hidden = empty;
    element("empty").hidden = !empty;
  };

  // ---- the table

  const heading = () => {
    const cells = [["sample", "sample", true], ...run.columns].map(([key, title, isNumber]) => {
      const button = make("button", { type: "button", "data-key": key, class: "sort" }, title);
      const cell = make("th", { scope: "col", class: isNumber ? "number" : "word" }, button);
      if (sort.key === key) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      return cell;
    });
    scroll.querySelector("thead tr").replaceChildren(...cells);
  };

  const draw = () => {
    const last = Math.max(0, Math.ceil(shown.length / PER_PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    const rows = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((row) => {
      const number = run.sample[row];
      const name = `Record of sample ${number}`;
      const attributes = { type: "button", "data-row": row, "aria-label": name, class: "open" };
      const button = make("button", { ...attributes, "aria-haspopup": "dialog" }, number);
      return make(
        "tr",
        {},
        make("th", { scope: "row", class: "number" }, button),
        ...run.columns.map(([, , isNumber, text]) =>
          make("td", { class: isNumber ? "number" : "word" }, text(row)),
        ),
      );
    });
    scroll.querySelector("tbody").replaceChildren(...rows);
    element("place").textContent = `page ${count(page + 1)} of ${count(last + 1)}`;
    steps(pages, page > 0, page < last);
  };

  // A button that is in use must not lose the focus when it has nothing left to do.
  const steps = (parent, before, after) => {
    parent.querySelector('[data-step="-1"]').setAttribute("aria-disabled", String(!before));
    parent.querySelector('[data-step="1"]').setAttribute("aria-disabled", String(!after));
  };

  const update = () => {
    filter();
    heading();
    draw();
    remember();
  };

  // ---- the choices that a run offers

  const options = (select, all, groups) => {
    const option = ([value, text]) => make("option", { value }, text);
    select.replaceChildren(
      option(["", all]),
      ...groups.flatMap(([label, choices]) =>
        label ? [make("optgroup", { label }, ...choices.map(option))] : choices.map(option),
      ),
    );
  };

  const show = (place) => {
    run = unpacked(runs[Math.max(0, place)]);
    field.run.value = String(run.place);
    const tally = (column, names) =>
      names
        .map((name, code) => [name, column.filter((value) => value === code).length])
        .filter(([, size]) => size > 0)
        .map(([name, size]) => [name, `${name} (${count(size)})`]);
    const classes = [...new Set(run.class)].sort((a, b) => a - b);
    run.names = new Map(classes.map((value) => [String(value), className(run, value)]));
    options(field.class, "all classes", [["", [...run.names]]]);
    options(field.verdict, "all verdicts", [["", tally(run.verdict, run.verdicts)]]);
    options(field.bracket, "all", [["", run.bracket ? tally(run.bracket, run.states) : []]]);
    const attacks = run.attacks ?? [];
    const grouped = [
      ["worst attack", "worst", ""],
      ["broken by", "broken", RELATIONS.broken],
      ["broken by no other than", "only", RELATIONS.only],
    ].filter(([, how]) => how !== "only" || attacks.length > 1);
    options(
      field.attack,
      "all attacks",
      grouped.map(([label, how, said]) => [
        label,
        attacks.map((name) => [`${how}:${name}`, said + name]),
      ]),
    );
    field.bracket.parentElement.hidden = !run.bracket;
    field.attack.parentElement.hidden = attacks.length === 0;
    run.measure = run.radius ? "radius" : "distance";
    element("from-label").textContent = run.radius ? "Radius from" : "Distance from";
    // Of certificates each sample has draws of its own, which stand in its record.
    const judged = run.kind === "attacks" && run.draws;
    const draws = judged ? `, ${plural(run.draws, "draw")} each` : "";
    const lack =
      run.missing === null
        ? "; an unknown number of samples is missing"
        : run.missing > 0
          ? `; ${count(run.missing)} of ${plural(run.rows + run.missing, "sample")} are missing`
          : "";
    element("caption").textContent = `Samples of ${run.run} in ${run.threat}${draws}${lack}`;
    page = 0;
  };

  // What makes a filter another one, though it is set to the same: a class of another name, a
  // distance in another norm.
  const sense = (name, value) => {
    if (name === "class") return run.names.get(value);
    return name === "from" || name === "to" ? `${run.measure} ${run.threat.split(":")[0]}` : "";
  };

  // Sets the filters to those of ``wanted``, and says which of them this run does not have.
  const set = (wanted) => {
    const off = [];
    for (const name of FIELDS) field[name].value = "";
    for (const { name, value, said, sense: meant } of wanted) {
      field[name].value = value;
      if (field[name].selectedIndex !== -1 && sense(name, value) === meant) continue;
      field[name].value = "";
      off.push(said);
    }
    lost = off.length ? ` Not in this run and switched off: ${listing(off)}.` : "";
  };

  const described = (name, value) => ({
    ...{ name, value },
    ...{ said: named(name, value), sense: sense(name, value) },
  });

  // Another run, under the same filters.
  const change = (place) => {
    const given = FIELDS.filter((name) => field[name].value.trim() !== "");
    const wanted = given.map((name) => described(name, field[name].value));
    show(place);
    set(wanted);
    if (sort.key !== "sample" && !run.columns.some(([key]) => key === sort.key))
      sort = { key: "sample", down: false };
  };

  // ---- one sample's record

  const facts = (pairs) => {
    const list = make("dl", {});
    for (const [name, value] of pairs)
      if (value !== "") list.append(make("dt", {}, name), make("dd", {}, value));
    return list;
  };

  const grid = (caption, headers, rows) => {
    const classes = headers.map(([, isNumber]) => (isNumber ? "number" : "word"));
    const head = headers.map(([title], place) =>
      make("th", { scope: "col", class: classes[place] }, title),
    );
    const cell = (value, place) =>
      place === 0
        ? make("th", { scope: "row", class: "word" }, value)
        : make("td", { class: classes[place] }, value);
    const body = rows.map((row) => make("tr", {}, ...row.map(cell)));
    const parts = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body)];
    const table = make("table", {}, make("caption", {}, caption), ...parts);
    const region = { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" };
    return make("div", region, table);
  };

  const attackRows = (table, row) =>
    table.by.map((attack, place) => {
      const says = known(table, place, row);
      const from = attack.carried[row];
      const remarks = [
        table.worst[row] === place ? "worst" : "",
        made[attack.made[row]],
        from === null ? "" : `not run: the proposal of ${table.attacks[from]} stands`,
      ];
      return [
        table.attacks[place],
        says ? className(table, attack.prediction[row]) : "",
        says ? (attack.share ? percent(attack.share[row]) : attack.held[row] ? "yes" : "no") : "",
        says ? String(attack.distance[row] ?? "") : "",
        attack.forwards[row] === null ? "" : count(attack.forwards[row]),
        attack.backwards[row] === null ? "" : count(attack.backwards[row]),
        remarks.filter((remark) => remark !== "").join("; "),
      ];
    });

  const attackRecord = (table, row) => {
    const share = table.share ? ` (right in ${percent(table.share[row])} of draws)` : "";
    const radii = table.proofs.map((proof) => [
      `radius by ${proof.method}`,
      String(proof.radius[row] ?? ""),
    ]);
    return [
      facts([
        ["class", className(table, table.class[row])],
        ["clean prediction", className(table, table.clean[row]) + share],
        ["verdict", table.verdicts[table.verdict[row]]],
        ["bracket", table.bracket ? (table.states[table.bracket[row]] ?? "") : ""],
        ...radii,
      ]),
      grid(
        "Under each attack",
        [
          ["attack", false],
          ["prediction", false],
          table.draws ? ["draws right", true] : ["right", false],
          ["distance", true],
          ["forwards", true],
          ["backwards", true],
          ["remarks", false],
        ],
        attackRows(table, row),
      ),
    ];
  };

  const proofRecord = (table, row) => {
    const given = (name) => String(table[name][row] ?? "");
    return [
      facts([
        ["class", className(table, table.class[row])],
        ["prediction", className(table, table.clean[row])],
        ["verdict", table.verdicts[table.verdict[row]] ?? ""],
        ["radius", given("radius")],
        ["bound", given("bound")],
        ["share, at least", given("share")],
        ["draws", given("draws")],
        ["forwards", count(table.forwards[row] ?? 0)],
        ["backwards", count(table.backwards[row] ?? 0)],
      ]),
    ];
  };

  // The same sample in the other runs on the same data.
  const elsewhere = (table, number) => {
    const rows = runs
      .filter((other) => other.place !== table.place && other.data === table.data)
      .map((other) => [other, other.sample.indexOf(number)])
      .filter(([, row]) => row >= 0)
      .map(([other, row]) => {
        const at = (column) => (Array.isArray(column) ? column[row] : column);
        const worst = other.kind === "attacks" ? at(other.worst) : null;
        const attack = worst === null ? "" : other.attacks[worst];
        return [other.run, other.threat, other.verdicts[at(other.verdict)] ?? "", attack];
      });
    const headers = ["run", "in", "verdict", "worst attack"].map((title) => [title, false]);
    return rows.length ? [grid("The same sample in the other runs", headers, rows)] : [];
  };

  // A copy of the gallery's picture, and the way to it.
  const picture = (table, number) => {
    const name = `sample-${table.place}-${number}`;
    const found = document.getElementById(name);
    if (!found) return [];
    const copy = found.cloneNode(true);
    for (const part of [copy, ...copy.querySelectorAll("[id]")]) part.removeAttribute("id");
    const link = make("a", { href: `#${name}`, "data-close": "" }, "Show it in the gallery");
    return [copy, make("p", {}, link)];
  };

  const fill = (row) => {
    open = row;
    const number = run.sample[row];
    element("record-title").textContent = `Sample ${number} of ${run.run}`;
    const record = run.kind === "attacks" ? attackRecord(run, row) : proofRecord(run, row);
    const parts = [...record, ...picture(run, number), ...elsewhere(run, number)];
    element("record-body").replaceChildren(...parts);
    const place = shown.indexOf(row);
    steps(box, place > 0, place >= 0 && place < shown.length - 1);
    box.scrollTop = 0;
    remember();
  };

  const openRecord = (row) => {
    fill(row);
    if (!box.open) box.showModal();
    element("record-title").focus();
  };

  // ---- the address

  const remember = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const kept = new URLSearchParams();
      if (run.place !== runs[0].place) kept.set("run", run.place);
      for (const name of FIELDS)
        if (field[name].value.trim() !== "") kept.set(name, field[name].value.trim());
      if (sort.key !== "sample" || sort.down) kept.set("sort", (sort.down ? "-" : "") + sort.key);
      if (page > 0) kept.set("page", page + 1);
      if (open !== null) kept.set("record", run.sample[open]);
      const text = kept.toString();
      const ours = location.hash.startsWith(PREFIX);
      if (text === "" ? !ours : location.hash === PREFIX + text) return;
      try {
        // Without an address of its own, as inside a notebook, a page cannot keep anything.
        history.replaceState(null, "", PREFIX + text);
      } catch {}
    }, REMEMBER);
  };

  const recall = () => {
    if (!location.hash.startsWith(PREFIX)) return false;
    const kept = new URLSearchParams(location.hash.slice(PREFIX.length));
    show(runs.findIndex((one) => String(one.place) === kept.get("run")));
    set(FIELDS.filter((name) => kept.has(name)).map((name) => described(name, kept.get(name))));
    if (kept.has("run") && String(run.place) !== kept.get("run"))
      lost += ` No run ${kept.get("run")} is on this page: this is another.`;
    const key = (kept.get("sort") ?? "sample").replace(/^-/, "");
    sort = { key: "sample", down: false };
    if (key === "sample" || run.columns.some(([name]) => name === key))
      sort = { key, down: (kept.get("sort") ?? "").startsWith("-") };
    page = (Number.parseInt(kept.get("page"), 10) || 1) - 1;
    update();
    const row = run.sample.findIndex((number) => String(number) === kept.get("record"));
    if (row >= 0) openRecord(row);
    else box.close();
    return true;
  };

  // ---- what the reader does

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    lost = "";
    if (event.target === field.run)
      change(runs.findIndex((one) => String(one.place) === field.run.value));
    page = 0;
    update();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault(); // the run stays
    set([]);
    page = 0;
    // The button that was pressed may go away, and the focus with it.
    if (element("empty").contains(document.activeElement)) element("count").focus();
    update();
  });
  element("empty").addEventListener("click", () => form.reset());
  scroll.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.row !== undefined) {
      openRecord(Number(button.dataset.row));
      return;
    }
    const { key } = button.dataset;
    sort = { key, down: sort.key === key && !sort.down };
    page = 0;
    update();
    scroll.querySelector(`[data-key="${key}"]`).focus();
  });
  pages.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || button.getAttribute("aria-disabled") === "true") return;
    page += Number(button.dataset.step);
    draw();
    remember();
  });
  box.addEventListener("click", (event) => {
    // A click on the dialog itself is one beside its content.
    const button = event.target.closest("button, a");
    if (event.target === box || button?.dataset.close !== undefined) {
      leaving = button?.tagName === "A";
      box.close();
    }
    if (button?.dataset.step && button.getAttribute("aria-disabled") !== "true")
      fill(shown[shown.indexOf(open) + Number(button.dataset.step)]);
  });
  box.addEventListener("close", () => {
    const row = open;
    open = null;
    const place = shown.indexOf(row);
    if (place >= 0 && Math.floor(place / PER_PAGE) !== page) {
      page = Math.floor(place / PER_PAGE);
      draw();
    }
    if (leaving) {
      leaving = false;
      clearTimeout(timer); // the address is now the picture's
      return;
    }
    remember();
    scroll.querySelector(`[data-row="${row}"]`)?.focus();
  });
  window.addEventListener("hashchange", () => {
    if (recall()) element("").scrollIntoView();
  });

  field.run.replaceChildren(
    ...runs.map((one) => make("option", { value: one.place }, one.run)),
  );
  field.run.parentElement.hidden = runs.length === 1;
  for (const part of [form, element("count"), scroll, pages]) part.hidden = false;
  show(0);
  if (recall()) element("").scrollIntoView();
  else update();
})();

// What the page does: filters, axes, ticks, export. Bokeh draws; the rows are in its one data source.
"use strict";
window.bench_page = (() => {
  const SCALES = {
    s: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]],
    B: [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
    "": [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]],
  };

  const short = (x) => String(Number(x.toPrecision(3)));

  function readable(value, unit) {
    if (!Number.isFinite(value)) return "";
    if (value === 0) return "0";
    const scales = SCALES[unit] || SCALES[""];
    const size = Math.abs(value);
    if (!(unit in SCALES) && size < 1e-2) return value.toExponential(1);
    const [scale, name] = scales.find(([s]) => size >= s * 0.9995) || scales[scales.length - 1];
    return name ? `${short(value / scale)} ${name}` : short(value / scale);
  }

  // ---- axes: a coordinate is the value, or its logarithm to base 10

  // values: where an axis has few of them, its ticks are they
  const of = (state) => ({ log: state.data.log[0] === 1, unit: state.data.unit[0], values: state.data.values[0] });

  function label(tick, state) {
    const { log, unit } = of(state);
    return readable(log ? 10 ** tick : tick, unit);
  }

  function ticks(start, end, state) {
    const { log, unit, values } = of(state);
    if (values.length) return { major: Array.from(values).filter((x) => x >= start && x <= end), minor: [] };
    if (unit === "B") return byteTicks(start, end, log);
    return log ? logTicks(start, end) : plainTicks(start, end);
  }

  // powers of two, or steps of one
  function byteTicks(start, end, log) {
    const major = [];
    if (log) {
      const low = start / Math.log10(2), high = end / Math.log10(2);
      const step = Math.max(1, Math.ceil((high - low) / 8));
      for (let power = Math.ceil(low / step) * step; power <= high; power += step) major.push(power * Math.log10(2));
    } else if (end > start) {
      const step = 2 ** Math.ceil(Math.log2((end - start) / 6));
      for (let i = Math.ceil(start / step); i * step <= end; i++) major.push(i * step);
    }
    return { major, minor: [] };
  }

  function logTicks(start, end) {
    if (end - start < 0.7) {  // so close that plain steps of the value lie better
      return { major: plainTicks(10 ** start, 10 ** end).major.filter((x) => x > 0).map(Math.log10), minor: [] };
    }
    const steps = end - start > 3 ? [1] : end - start > 1.4 ? [1, 3] : [1, 2, 5];
    const every = Math.max(1, Math.ceil((end - start) / 8));
    const major = [], minor = [];
    for (let decade = Math.floor(start); decade <= end; decade++) {
      for (let step = 1; step < 10; step++) minor.push(decade + Math.log10(step));
      if (((decade % every) + every) % every === 0) for (const step of steps) major.push(decade + Math.log10(step));
    }
    const within = (x) => x >= start && x <= end;
    return { major: major.filter(within), minor: minor.filter(within) };
  }

  function plainTicks(start, end) {
    const raw = (end - start) / 6;
    if (!(raw > 0)) return { major: [], minor: [] };
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((s) => s * power >= raw);
    const major = [];
    for (let i = Math.ceil(start / step); i * step <= end; i++) major.push(i * step);
    return { major, minor: [] };
  }

  // ---- everything else waits for the document

  function start(doc) {
    const spec = JSON.parse(document.getElementById("spec").textContent);
    const source = doc.get_model_by_name("rows"), shown = doc.get_model_by_name("shown");
    const count = source.get_length() || 0;
    const byName = Object.fromEntries(spec.columns.map((column) => [column.name, column]));
    const text = (column, i) => {
      if (column.kind === "metric") return source.data[column.field + "_t"][i];
      const value = source.data[column.field][i];
      return column.kind === "number" ? (Number.isNaN(value) ? "" : String(value)) : value;
    };
    const words = Array.from({ length: count }, (_, i) =>
      spec.columns.map((column) => text(column, i)).join("\n").toLowerCase());

    // filters: a chip for each value of each factor; in a factor without a chosen one, all are shown
    const chosen = new Map();
    const filters = document.getElementById("filters");
    for (const column of spec.columns.filter((own) => own.chosen)) {
      const levels = new Map();
      for (let i = 0; i < count; i++) levels.set(text(column, i), (levels.get(text(column, i)) || 0) + 1);
      if (levels.size < 2 || levels.size > 40) continue;
      const set = document.createElement("fieldset"), name = document.createElement("legend");
      name.textContent = column.name.replaceAll("_", " ");
      set.append(name);
      set.dataset.factor = column.name;
      for (const level of inOrder([...levels.keys()], column.kind === "number")) {
        const chip = document.createElement("label"), box = document.createElement("input");
        chip.className = "chip";
        chip.title = `${level || "without"}: ${levels.get(level)} rows`;
        box.type = "checkbox";
        box.value = level;
        box.addEventListener("change", () => {
          const own = chosen.get(column.name) || new Set();
          if (box.checked) own.add(level); else own.delete(level);
          chosen.set(column.name, own);
          filter();
        });
        chip.append(box, level === "" ? "–" : level);
        set.append(chip);
      }
      filters.append(set);
    }

    const search = document.getElementById("search"), told = document.getElementById("count");

    function passes(i) {
      for (const [name, own] of chosen) if (own.size && !own.has(text(byName[name], i))) return false;
      const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      return wanted.every((word) => words[i].includes(word));
    }

    function filter() {
      shown.booleans = Array.from({ length: count }, (_, i) => passes(i));
      const left = shown.booleans.filter(Boolean).length;
      told.textContent = (left === count ? "" : `${left} of `) + (count === 1 ? "1 row" : `${count} rows`);
      for (const panel of panels) panel.frame();
    }

    // plots: any two columns of numbers
    const looks = [...new Set(source.data.look)].sort();
    const numbers = spec.columns.filter((column) =>
      column.kind !== "text" && Array.from(source.data[column.field]).some(Number.isFinite));
    const panels = [...document.querySelectorAll(".panel")].map((element) => panelOf(element));

    function panelOf(element) {
      const name = element.dataset.panel;
      if (!numbers.length) {
        element.hidden = true;
        return { draw() {}, frame() {} };
      }
      const plot = doc.get_model_by_name(name);
      const select = { x: element.querySelector("select.x"), y: element.querySelector("select.y") };
      const log = { x: element.querySelector(".xlog"), y: element.querySelector(".ylog") };
      for (const which of ["x", "y"]) {
        for (const column of numbers) select[which].append(new Option(column.name.replaceAll("_", " "), column.name));
        const wanted = spec.panels[name][which];
        select[which].value = numbers.includes(byName[wanted]) ? wanted : numbers[0].name;
        select[which].addEventListener("change", () => { suggest(which); draw(); });
        log[which].addEventListener("change", draw);
      }

      let plain = [];  // coordinates on x, before variants are put side by side

      const column = (which) => byName[select[which].value];
      const values = (which) => source.data[column(which).field];

      // a logarithm where values are positive and far apart
      function suggest(which) {
        const own = Array.from(values(which)).filter(Number.isFinite);
        const positive = own.filter((x) => x > 0);
        log[which].disabled = positive.length === 0;
        log[which].checked = positive.length > 0 && positive.length >= own.length * 0.5
          && Math.max(...positive) / Math.min(...positive) >= 4;
      }

      function draw() {
        const moved = (which) => (log[which].checked ? (v) => (v > 0 ? Math.log10(v) : NaN) : (v) => v);
        const x = Float64Array.from(values("x"), moved("x")), y = Float64Array.from(values("y"), moved("y"));
        const few = (which, own) => {
          const levels = column(which).kind === "number" ? [...new Set(own.filter(Number.isFinite))] : [];
          return levels.length <= 12 ? levels.sort((a, b) => a - b) : [];
        };
        const axes = { x: few("x", x), y: few("y", y) };
        plain = x.slice();
        if (axes.x.length) aside(x, axes.x);
        const end = (suffix) => {
          const own = source.data[column("y").field + suffix];
          return own ? Float64Array.from(own, moved("y")) : new Float64Array(count).fill(NaN);
        };
        const tips = (which) => Array.from({ length: count }, (_, i) =>
          `${column(which).name.replaceAll("_", " ")}: ${text(column(which), i)}`);
        source.data = {
          ...source.data, [`${name}_x`]: x, [`${name}_y`]: y, [`${name}_lo`]: end("_lo"), [`${name}_hi`]: end("_hi"),
          [`${name}_xt`]: tips("x"), [`${name}_yt`]: tips("y"),
        };
        const one = doc.get_model_by_name(`${name}_one`);  // the real layer's time
        one.setv({ visible: column("y").name === "latency_ratio", location: log.y.checked ? 0 : 1 });
        for (const which of ["x", "y"]) {
          const unit = column(which).unit;
          doc.get_model_by_name(`${name}_${which}_axis`).data = {
            log: [log[which].checked ? 1 : 0], unit: [unit === "1" ? "" : unit], values: [axes[which]],
          };
          const axis = doc.get_model_by_name(`${name}_${which}`);
          axis.axis_label = column(which).name.replaceAll("_", " ") + (unit && unit !== "1" ? ` (${unit})` : "");
        }
        frame();
      }

      // variants side by side where an axis has few values
      function aside(x, levels) {
        const gaps = levels.slice(1).map((level, i) => level - levels[i]);
        const step = (gaps.length ? Math.min(...gaps) : 1) * 0.3 / Math.max(looks.length, 2);
        for (let i = 0; i < count; i++) x[i] += (looks.indexOf(source.data.look[i]) - (looks.length - 1) / 2) * step;
      }

      // the ranges around what is shown, with a margin
      function frame() {
        const d = source.data, on = shown.booleans || [];
        const xs = [], ys = [];
        for (let i = 0; i < count; i++) {
          if (on[i] === false || !Number.isFinite(d[`${name}_x`][i]) || !Number.isFinite(d[`${name}_y`][i])) continue;
          xs.push(d[`${name}_x`][i], plain[i]);
          for (const end of ["y", "lo", "hi"]) if (Number.isFinite(d[`${name}_${end}`][i])) ys.push(d[`${name}_${end}`][i]);
        }
        element.querySelector(".drawn").textContent = xs.length ? `${xs.length / 2} drawn` : "no row has both";
        fit(plot.x_range, xs, log.x.checked);
        fit(plot.y_range, ys, log.y.checked);
      }

      suggest("x");
      suggest("y");
      return { draw, frame };
    }

    function fit(range, values, log) {
      let low = Infinity, high = -Infinity;
      for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
      if (!(low <= high)) { low = 0; high = 1; }
      if (!log && low > 0 && low < 0.75 * high) low = 0;  // a bar or point is judged by its distance from nothing
      const margin = (high - low) * 0.07 || Math.abs(high) * 0.1 || 0.5;
      const ends = { start: low === 0 && !log ? 0 : low - margin, end: high + margin };
      range.setv({ ...ends, reset_start: ends.start, reset_end: ends.end });
    }

    function save() {
      const lines = [[]];
      for (const c of spec.columns) lines[0].push(...(c.kind === "metric" ? [c.name, `${c.name}_lo`, `${c.name}_hi`, `${c.name}_shown`] : [c.name]));
      for (let i = 0; i < count; i++) {
        if (!shown.booleans[i]) continue;
        const line = [];
        for (const c of spec.columns) {
          if (c.kind === "text") line.push(source.data[c.field][i]);
          else {
            const ends = c.kind === "metric" ? ["", "_lo", "_hi"] : [""];
            for (const end of ends) { const v = source.data[c.field + end][i]; line.push(Number.isNaN(v) ? "" : String(v)); }
            if (c.kind === "metric") line.push(source.data[`${c.field}_t`][i]);
          }
        }
        lines.push(line);
      }
      const blob = new Blob([lines.map((line) => line.map(cell).join(",")).join("\n") + "\n"], { type: "text/csv" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = spec.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }

    search.addEventListener("input", filter);
    document.getElementById("export").addEventListener("click", save);
    document.getElementById("unselect").addEventListener("click", () => { source.selected.indices = []; });
    document.getElementById("reset").addEventListener("click", () => {
      for (const box of filters.querySelectorAll("input")) box.checked = false;
      chosen.clear();
      search.value = "";
      filter();
    });
    for (const panel of panels) panel.draw();
    filter();
    document.body.dataset.ready = "yes";
  }

  const inOrder = (levels, numeric) => numeric ? levels.sort((a, b) => Number(a) - Number(b)) : levels;

  // a spreadsheet takes text that begins like a formula for one
  function cell(value) {
    const safe = /^[=+\-@\t\r]/.test(value) && !Number.isFinite(Number(value)) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function wait() {
    const doc = window.Bokeh && Bokeh.documents.find((own) => own.get_model_by_name("table"));
    if (doc && doc.is_idle) start(doc); else setTimeout(wait, 30);
  }
  document.addEventListener("DOMContentLoaded", wait);
  return { ticks, label };
})();

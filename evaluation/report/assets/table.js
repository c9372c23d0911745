"use strict";
/* The table of clips: its numbers, sorting and filter. */
(() => {
  const { data } = report;
  const body = document.querySelector("#clips-table tbody");
  const rows = [...body.rows];
  let sort = { key: "order", descending: false };

  const clipOf = (row) => data.clips[Number(row.dataset.clipRow)];
  const leadPercent = (clip) => {
    const found = report.bd(clip, data.lead, report.state.metric);
    return found ? found.percent : null;
  };

  const paint = (cell, value, marks = "") => {
    cell.textContent = report.signed(value) + marks;
    cell.classList.toggle("good", value !== null && value < -0.005);
    cell.classList.toggle("bad", value !== null && value > 0.005);
    /* A bar behind the number: a tenth of the bitrate is half the cell. */
    const share = value === null ? 0 : Math.min(Math.abs(value) / 20, 0.5);
    cell.style.setProperty("--share", share);
    cell.dataset.side = value !== null && value < 0 ? "left" : "right";
  };

  const fill = () => {
    const metric = report.state.metric;
    rows.forEach((row) => {
      const clip = clipOf(row);
      row.querySelectorAll("[data-bd]").forEach((cell) => {
        const found = report.bd(clip, cell.dataset.bd, metric);
        const low = found && found.percent !== null && found.overlap < 0.75 ? "\u202f~" : "";
        paint(cell, found ? found.percent : null, low + (found && found.dropped ? "\u202f!" : ""));
        cell.title = found && found.percent === null ? found.reason : "";
      });
      const control = row.querySelector("[data-control]");
      if (control) paint(control, report.againstControl(clip, metric));
      const off = report.meanOff(clip);
      row.querySelector("[data-landing]").textContent = off === null ? "n/a" : `${off.toFixed(1)}%`;
    });
  };

  const value = (row, key) => {
    const clip = clipOf(row);
    if (key === "order") return Number(row.dataset.clipRow);
    if (key === "name") return clip.name.toLowerCase();
    if (key === "control") return report.againstControl(clip, report.state.metric);
    if (key === "landing") return report.meanOff(clip);
    const found = report.bd(clip, key, report.state.metric);
    return found ? found.percent : null;
  };

  const arrange = () => {
    const sign = sort.descending ? -1 : 1;
    const sorted = [...rows].sort((one, other) => {
      const [a, b] = [value(one, sort.key), value(other, sort.key)];
      /* What has no number comes last either way. */
      if (a === null || b === null) return (a === null) - (b === null);
      return a < b ? -sign : a > b ? sign : 0;
    });
    body.append(...sorted);
    document.querySelectorAll("#clips-table th[aria-sort]").forEach((head) => {
      const mine = head.querySelector("[data-sort]").dataset.sort === sort.key;
      head.setAttribute("aria-sort", mine ? (sort.descending ? "descending" : "ascending") : "none");
    });
    report.byId("sort").value = sort.key;
  };

  const filter = () => {
    const words = report.byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = report.byId("filter-kind").value;
    const fits = {
      all: () => true, better: (p) => p !== null && p < 0, worse: (p) => p !== null && p > 0,
      undefined: (p) => p === null,
    }[kind];
    let left = 0;
    rows.forEach((row) => {
      const clip = clipOf(row);
      const show = words.every((w) => clip.name.toLowerCase().includes(w)) && fits(leadPercent(clip));
      row.hidden = !show;
      left += show;
    });
    report.byId("count").textContent =
      left === rows.length ? `${rows.length} clips` : `${left} of ${rows.length} clips`;
  };

  const mark = () =>
    rows.forEach((row) => {
      const chosen = Number(row.dataset.clipRow) === report.state.clip;
      row.classList.toggle("chosen", chosen);
      row.querySelector("[data-open]").setAttribute("aria-pressed", String(chosen));
    });

  document.querySelectorAll("#clips-table [data-sort]").forEach((button) => {
    button.addEventListener("click", () => {
      const key = button.dataset.sort;
      sort = { key, descending: sort.key === key && !sort.descending };
      arrange();
    });
  });
  report.byId("sort").addEventListener("change", (event) => {
    sort = { key: event.target.value, descending: false };
    arrange();
  });
  report.byId("filter").addEventListener("input", filter);
  report.byId("filter-kind").addEventListener("change", filter);
  rows.forEach((row) => {
    row.addEventListener("click", () => report.openClip(Number(row.dataset.clipRow)));
  });
  report.listeners.push((changed) => {
    if (changed.includes("metric")) {
      fill();
      arrange();
      filter();
    }
    if (changed.includes("clip")) mark();
  });
  report.startTable = () => {
    fill();
    arrange();
    filter();
    mark();
  };
})();

"use strict";
/* Pictures of what `muzero-rc lottery --json` found; a part that is missing is left out. */
(() => {
  const { data, byId, colour, plain, rgba, css } = report;
  const lottery = data.lottery;
  const box = byId("lottery-plots");
  if (!lottery || !box) return;
  const known = (method) => report.methodIndex.has(method);
  const methods = data.methods.map((m) => m.name).filter((m) => (lottery.methods || []).includes(m));
  const judged = methods.filter((m) => m !== data.anchor);
  const pictures = [];

  /* Scores are natural logarithms of ratios of rates. */
  const percent = (score) => 100 * (Math.exp(score) - 1);
  const metricName = (name) => {
    const found = data.metrics.find((m) => m.name === name);
    return found ? found.label : name;
  };
  const has = (list) => Array.isArray(list) && list.length > 0;

  const figure = (title, note, draw, height = 300) => {
    const id = `plot-lottery-${pictures.length}`;
    const card = document.createElement("figure");
    card.className = "card";
    const caption = document.createElement("figcaption");
    const heading = document.createElement("h3");
    heading.textContent = title;
    caption.append(heading);
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.id = id;
    plot.style.height = `${height}px`;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", `${title}. ${note}`);
    const text = document.createElement("p");
    text.className = "note";
    text.textContent = note;
    card.append(caption, plot, text);
    box.append(card);
    pictures.push(() => draw(id));
  };

  const bySize = (key, names) => (id) => {
    const samples = lottery.samples;
    const traces = names.map((m) => ({
      x: samples.map((s) => s.size), y: samples.map((s) => 100 * s[key][m]), name: plain(m),
      mode: "lines+markers", line: { color: colour(m), width: 2.2 },
      marker: { symbol: report.symbol(m), size: 7, color: colour(m) },
      hovertemplate: `<b>%{y:.0f}%</b> ${plain(m)}<br>%{x} clips<extra></extra>`,
    }));
    report.draw(id, traces, {
      xaxis: { title: { text: "clips in the draw" }, dtick: samples.length < 12 ? 1 : undefined, zeroline: false },
      yaxis: { ticksuffix: "%", range: [-3, 103], zeroline: false },
      shapes: [{
        type: "line", x0: 0, x1: 1, xref: "paper", y0: 95, y1: 95,
        line: { color: css("--muted"), width: 1, dash: "dash" },
      }],
    });
  };

  /* A row for each way to look at it, a dot for each method. */
  const rows = (list, name) => (id) => {
    const ordered = [...list].reverse();
    const traces = judged.map((m) => ({
      x: ordered.map((draw) => percent(draw.mean[m])), y: ordered.map((_, i) => i),
      name: plain(m), mode: "markers",
      marker: { symbol: report.symbol(m), size: 10, color: colour(m) },
      text: ordered.map((draw) => `${plain(name(draw))}, ${draw.clips} clips`),
      hovertemplate: `<b>%{x:+.2f}%</b> ${plain(m)}<br>%{text}<extra></extra>`,
    }));
    report.draw(id, traces, {
      xaxis: { ticksuffix: "%", zeroline: true, zerolinewidth: 2, rangemode: "tozero" },
      yaxis: {
        tickvals: ordered.map((_, i) => i), ticktext: ordered.map((d) => plain(name(d))),
        range: [-0.7, ordered.length - 0.3], zeroline: false,
      },
    });
  };

  const influence = (list) => (id) => {
    const ordered = list.slice(0, 12).reverse();
    const method = known(data.lead) ? data.lead : judged[0];
    report.draw(id, [{
      type: "bar", orientation: "h", y: ordered.map((_, i) => i),
      x: ordered.map((i) => percent(i.shift[method])), showlegend: false,
      marker: {
        color: ordered.map((i) =>
          i.sign_flips.includes(method) ? colour(method) : rgba(colour(method), 0.45)),
      },
      text: ordered.map((i) => `without ${plain(i.left_out)}` +
        (i.sign_flips.length ? `, the sign changes for ${plain(i.sign_flips.join(", "))}` : "")),
      textposition: "none", hovertemplate: "<b>%{x:+.2f}%</b><br>%{text}<extra></extra>",
    }], {
      xaxis: { ticksuffix: "%", zeroline: true, zerolinewidth: 2, nticks: report.narrow() ? 4 : 8, tickangle: 0 },
      yaxis: {
        tickvals: ordered.map((_, i) => i),
        ticktext: ordered.map((i) => plain(i.left_out.length > 24 ? `${i.left_out.slice(0, 23)}…` : i.left_out)),
        range: [-0.7, ordered.length - 0.3], zeroline: false,
      },
    });
  };

  const heightOf = (list) => 120 + 30 * Math.min(list.length, 16);

  if (has(lottery.samples)) {
    figure("Who wins with fewer clips", "Share of draws of so many clips that each method wins.",
      bySize("win_share", methods));
    figure("Same side with fewer clips",
      "Share of draws in which a method is on the same side of two-pass VBR as over all clips; dashed: 95%.",
      bySize("same_sign", judged));
  }
  if (has(lottery.metrics) && lottery.metrics.length > 1) {
    figure("By other metrics", "Mean BD-rate on the same clips.",
      rows(lottery.metrics, (d) => metricName(d.metric)), heightOf(lottery.metrics));
  }
  if (has(lottery.targets)) {
    const shown = lottery.targets.slice(0, 16);
    figure("By fewer targets", "Mean BD-rate from a part of each clip's targets, numbered from the lowest.",
      rows(shown, (d) => d.rungs.join(" ")), heightOf(shown));
  }
  if (has(lottery.clip_influence)) {
    figure("What one clip does", `How far the mean of ${data.lead} moves without it; full colour: its sign changes.`,
      influence(lottery.clip_influence), heightOf(lottery.clip_influence.slice(0, 12)));
  }
  if (has(lottery.source_influence)) {
    figure("What one source does", `How far the mean of ${data.lead} moves without all its clips.`,
      influence(lottery.source_influence), heightOf(lottery.source_influence.slice(0, 12)));
  }
  if (has(lottery.aggregates)) {
    const agree = lottery.aggregates.filter((a) => a.winner === lottery.winner).length;
    const line = document.createElement("p");
    line.className = "prose";
    line.textContent = `${agree} of ${lottery.aggregates.length} ways to put clips together agree ` +
      `that ${lottery.winner} is the best: ` +
      `${lottery.aggregates.map((a) => `${a.name.replace(/_/g, " ")} (${a.winner})`).join(", ")}.`;
    box.before(line);
  }
  report.drawLottery = () => pictures.forEach((draw) => draw());
})();

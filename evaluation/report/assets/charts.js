"use strict";
/* The pictures over clips and of one clip, but for its frames. */
(() => {
  const { data, byId, css, rgba, colour, symbol, plain } = report;

  report.narrow = () => window.innerWidth < 640;

  /* What every picture has in common; `extra` goes over it, axes one level deep. */
  report.layout = (extra) => {
    const axis = {
      gridcolor: css("--grid"), zerolinecolor: css("--zero"), linecolor: css("--line"),
      tickfont: { color: css("--muted") }, automargin: true, fixedrange: false,
      title: { font: { color: css("--muted"), size: 12.5 }, standoff: 8 },
    };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: css("--font"), size: 12.5, color: css("--text") },
      margin: { l: 8, r: 12, t: 8, b: 8 }, hovermode: "closest", dragmode: false,
      hoverlabel: {
        bgcolor: css("--card"), bordercolor: css("--line"),
        font: { family: css("--font"), size: 12.5, color: css("--text") }, align: "left",
      },
      legend: {
        orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom",
        font: { color: css("--text") }, bgcolor: "rgba(0,0,0,0)",
      },
    };
    const whole = { ...base, ...extra };
    for (const key of Object.keys(extra).filter((k) => /^[xy]axis/.test(k))) {
      const own = extra[key];
      whole[key] = { ...axis, ...own, title: { ...axis.title, ...(own.title || {}) } };
    }
    return whole;
  };

  report.draw = (id, traces, layout) => {
    const box = byId(id);
    if (!box) return null;
    const options = { displayModeBar: false, responsive: true, scrollZoom: false };
    Plotly.react(box, traces, report.layout(layout), options);
    return box;
  };

  const metricTitle = () => {
    const metric = data.metrics.find((m) => m.name === report.state.metric);
    return metric.unit ? `${metric.label}, ${metric.unit}` : metric.label;
  };

  const curve = (clip, method) => {
    const metric = report.state.metric;
    const points = report.encodes(clip, method).filter((e) => e.quality[metric] !== null);
    return points.sort((a, b) => a.kbps - b.kbps);
  };

  const rateAxis = { type: "log", title: { text: "bitrate, kbit/s" }, dtick: "D2", tickformat: "~g" };
  const legendOf = (number) => plain(data.methods[number].label);

  const rdTrace = (clip, method, number, prominent) => {
    const points = curve(clip, method.name);
    const lead = method.role === "lead";
    const base = colour(method.name);
    return {
      x: points.map((p) => p.kbps), y: points.map((p) => p.quality[report.state.metric]),
      name: legendOf(number), legendgroup: method.name, showlegend: prominent,
      mode: prominent ? "lines+markers" : "lines",
      line: {
        color: prominent ? base : rgba(base, 0.38), width: prominent ? (lead ? 3 : 2) : 1.1,
        shape: "spline", smoothing: 0.5,
      },
      marker: { size: lead ? 8 : 7, symbol: symbol(method.name), color: base },
      text: points.map((p) => `target ${p.target} kbit/s, ${report.signed(report.deviation(p), 1)} off`),
      hovertemplate: prominent
        ? `<b>${plain(method.name)}</b><br>%{x:.1f} kbit/s, %{y:.2f}<br>%{text}<extra></extra>`
        : undefined,
      hoverinfo: prominent ? undefined : "skip",
    };
  };

  /* The integrand of the BD-rate: where in the quality range the bitrate is saved. */
  const savingTrace = (clip, method, number, prominent) => {
    const found = clip.savings.find(
      (s) => s.method === method.name && s.metric === report.state.metric,
    ) || { quality: [], percent: [] };
    const base = colour(method.name);
    return {
      x: found.quality, y: found.percent, name: legendOf(number), showlegend: prominent,
      mode: "lines", legendgroup: method.name,
      line: {
        color: prominent ? base : rgba(base, 0.38),
        width: prominent ? (method.role === "lead" ? 3 : 2) : 1.1,
      },
      hovertemplate: prominent
        ? `<b>%{y:+.2f}%</b> ${plain(method.name)}<br>at %{x:.2f}<extra></extra>` : undefined,
      hoverinfo: prominent ? undefined : "skip",
    };
  };

  /* The lead last, so that it lies on top; the legend keeps the order of methods. */
  const onTop = () => data.methods.map((m, i) => [m, i]).reverse();

  const drawCurves = (id, others) => {
    const saved = report.state.rd === "saving";
    const trace = saved ? savingTrace : rdTrace;
    const judged = onTop().filter(([m]) => !saved || m.role !== "anchor");
    const traces = others.flatMap((clip) => judged.map(([m, i]) => trace(clip, m, i, false)));
    traces.push(...judged.map(([m, i]) => trace(report.clip(), m, i, true)));
    const box = byId(id);
    const legend = { ...report.layout({}).legend, traceorder: "reversed" };
    report.draw(id, traces, saved
      ? {
          xaxis: { title: { text: metricTitle() } }, legend,
          yaxis: {
            title: { text: "bitrate against two-pass VBR" }, ticksuffix: "%", zeroline: true,
            zerolinewidth: 2, rangemode: "tozero",
          },
        }
      : { xaxis: rateAxis, yaxis: { title: { text: metricTitle() } }, legend });
    return box;
  };

  report.drawRd = () => drawCurves("plot-rd", data.clips.filter((c) => c !== report.clip()));
  report.drawClipRd = () => drawCurves("plot-clip-rd", []);

  /* A fixed spread, so that the picture is the same every time. */
  const spread = (number) => ((number * 0.618034) % 1) * 0.56 - 0.28;

  report.drawLanding = () => {
    const rows = data.methods.map((m) => m.name).reverse();
    const traces = data.methods.map((m) => {
      const every = data.clips.flatMap((clip) =>
        report.encodes(clip, m.name).map((e) => ({ clip, e })),
      );
      return {
        x: every.map(({ e }) => report.deviation(e)),
        y: every.map((_, i) => rows.indexOf(m.name) + spread(i)),
        mode: "markers", showlegend: false,
        marker: {
          size: 8, color: rgba(colour(m.name), 0.55), symbol: symbol(m.name),
          line: { width: 1, color: colour(m.name) },
        },
        text: every.map(({ clip, e }) => `${plain(clip.name)}, target ${e.target} kbit/s`),
        hovertemplate: `<b>%{x:+.1f}%</b><br>%{text}<extra></extra>`,
        customdata: every.map(({ clip }) => data.clips.indexOf(clip)),
      };
    });
    const means = data.methods.map((m) => {
      const landing = data.landing[m.name];
      return landing ? 100 * landing.mean_deviation : null;
    });
    traces.push({
      x: means, y: data.methods.map((m) => rows.indexOf(m.name)), mode: "markers",
      marker: { symbol: "line-ns-open", size: 34, color: css("--text"), line: { width: 2.5 } },
      showlegend: false, hovertemplate: "mean %{x:+.1f}%<extra></extra>",
    });
    const box = report.draw("plot-landing", traces, {
      xaxis: { title: { text: "off target, percent" }, ticksuffix: "%", zeroline: true, zerolinewidth: 2 },
      yaxis: {
        tickvals: rows.map((_, i) => i), ticktext: data.methods.map((m) => plain(m.label)).reverse(),
        range: [-0.6, rows.length - 0.4],
        showgrid: false, zeroline: false,
      },
    });
    onClipClick(box);
  };

  report.drawClipLanding = () => {
    const targets = [...new Set(report.clip().encodes.map((e) => e.target))].sort((a, b) => a - b);
    const traces = data.methods.map((m) => {
      const mine = report.encodes(report.clip(), m.name);
      return {
        x: mine.map((e) => String(targets.indexOf(e.target))), y: mine.map(report.deviation),
        type: "bar", name: plain(m.label), marker: { color: colour(m.name) },
        text: mine.map((e) => `${e.kbps.toFixed(1)} kbit/s for ${e.target}`),
        textposition: "none",
        hovertemplate: "%{y:+.1f}%<br>%{text}<extra></extra>",
      };
    });
    report.draw("plot-clip-landing", traces, {
      barmode: "group", bargap: 0.3, bargroupgap: 0.1,
      xaxis: {
        type: "category", title: { text: "target, kbit/s" },
        tickvals: targets.map((_, i) => String(i)), ticktext: targets.map(String),
        categoryorder: "array", categoryarray: targets.map((_, i) => String(i)),
      },
      yaxis: { title: { text: "off target" }, ticksuffix: "%", zerolinewidth: 2 },
    });
  };

  report.drawBd = () => {
    const judged = data.methods.filter((m) => m.role !== "anchor");
    const metric = report.state.metric;
    const percent = (clip, method) => {
      const found = report.bd(clip, method, metric);
      return found ? found.percent : null;
    };
    /* Best at the top; those without a number at the bottom. */
    const sorted = data.clips
      .map((clip, i) => ({ clip, i }))
      .sort((a, b) => (percent(b.clip, data.lead) ?? 1e9) - (percent(a.clip, data.lead) ?? 1e9));
    const traces = judged.map((m) => ({
      x: sorted.map(({ clip }) => percent(clip, m.name)), y: sorted.map((_, row) => row),
      mode: "markers", name: plain(m.label),
      marker: {
        size: m.role === "lead" ? 12 : 9, color: colour(m.name),
        symbol: sorted.map(({ clip }) => {
          const found = report.bd(clip, m.name, metric);
          return symbol(m.name) + (found && found.overlap < 0.75 ? "-open" : "");
        }),
        line: { width: 1.6, color: colour(m.name) },
      },
      customdata: sorted.map(({ i }) => i), text: sorted.map(({ clip }) => plain(clip.name)),
      hovertemplate: `<b>%{x:+.2f}%</b> ${plain(m.name)}<br>%{text}<extra></extra>`,
    }));
    traces.reverse();
    const box = byId("plot-bd");
    box.style.height = `${Math.max(150, 74 + 27 * sorted.length)}px`;
    const shorten = (name) => {
      const most = report.narrow() ? 14 : 34;
      return plain(name.length > most ? `${name.slice(0, most - 1)}…` : name);
    };
    report.draw("plot-bd", traces, {
      xaxis: { ticksuffix: "%", zeroline: true, zerolinewidth: 2, rangemode: "tozero" },
      yaxis: {
        tickvals: sorted.map((_, row) => row), ticktext: sorted.map(({ clip }) => shorten(clip.name)),
        range: [-0.7, sorted.length - 0.3], zeroline: false,
      },
      legend: { ...report.layout({}).legend, traceorder: "reversed" },
    });
    onClipClick(box);
  };

  function onClipClick(box) {
    box.removeAllListeners("plotly_click");
    box.on("plotly_click", (event) => {
      const index = event.points[0].customdata;
      if (Number.isInteger(index)) report.openClip(index);
    });
  }
})();

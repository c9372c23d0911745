"use strict";
/* One clip at one target, frame by frame: qindex, bitrate, PSNR, group of pictures. */
(() => {
  const { data, rgba, colour, plain } = report;
  const TYPES = ["key", "leaf", "golden", "ARF", "overlay", "mid overlay", "shown again"];
  const SYMBOLS = ["square", "circle", "diamond", "diamond-tall", "x", "x-thin", "line-ew"];

  report.frameType = (trace, i) => {
    const type = TYPES[trace.update_type[i]] || "frame";
    return trace.shown[i] ? type : `${type}, hidden`;
  };

  /* Index in the trace of the frame with a display index that is shown. */
  report.shownFrame = (trace, show) =>
    trace.show_index.findIndex((s, i) => s === show && trace.shown[i]);

  const rollingMean = (values, window) => {
    const total = [0];
    values.forEach((v) => total.push(total[total.length - 1] + v));
    return values.map((_, i) => {
      const low = Math.max(0, i - (window >> 1));
      const high = Math.min(values.length, i + ((window + 1) >> 1));
      return (total[high] - total[low]) / (high - low);
    });
  };

  const columns = (encode, fps) => {
    const t = encode.trace;
    const every = t.show_index.map((_, i) => i);
    const shown = every.filter((i) => t.shown[i]).sort((a, b) => t.show_index[a] - t.show_index[b]);
    const hidden = every.filter((i) => !t.shown[i]);
    const coded = shown.filter((i) => t.qindex[i] >= 0);
    /* A hidden reference is paid for at the place where it will be shown. */
    const bits = new Array(shown.length).fill(0);
    every.forEach((i) => {
      bits[Math.min(t.show_index[i], bits.length - 1)] += t.bits[i];
    });
    const rate = bits.map((b) => (b * fps) / 1000);
    return { t, every, shown, hidden, coded, rate, window: Math.max(1, Math.round(fps)) };
  };

  const hover = (t, i) =>
    `${report.frameType(t, i)}<br>qindex ${t.qindex[i] < 0 ? "none" : t.qindex[i]}` +
    (t.proposal[i] >= 0 ? `, libvpx proposed ${t.proposal[i]}` : "") +
    `<br>${t.bits[i].toLocaleString("en")} bits, ${t.psnr[i].toFixed(2)} dB`;

  const methodTraces = (encode, number) => {
    const fps = report.fps(report.clip());
    const c = columns(encode, fps);
    const base = colour(encode.method);
    const role = data.methods[number].role;
    const visible = role === "other" || role === "control" ? "legendonly" : true;
    const common = { legendgroup: encode.method, visible, showlegend: false };
    const label = (i) => `<b>frame ${c.t.show_index[i]}</b>, ${plain(encode.method)}<br>${hover(c.t, i)}`;
    const dots = (list, ys, axis, extra = {}) => ({
      ...common, x: list.map((i) => c.t.show_index[i]), y: ys, yaxis: axis, mode: "markers",
      marker: { size: 5, color: rgba(base, 0.4), ...extra },
      text: list.map(label), hovertemplate: "%{text}<extra></extra>",
    });
    const mean = (list, ys, axis, extra = {}) => ({
      ...common, x: list.map((i) => c.t.show_index[i]), y: rollingMean(ys, c.window), yaxis: axis,
      mode: "lines", line: { color: base, width: 2.4 }, hoverinfo: "skip", ...extra,
    });
    const q = c.coded.map((i) => c.t.qindex[i]);
    const psnr = c.shown.map((i) => c.t.psnr[i]);
    return [
      mean(c.coded, q, "y4", { showlegend: true, name: plain(encode.method) }),
      dots(c.coded, q, "y4"),
      dots(c.hidden, c.hidden.map((i) => c.t.qindex[i]), "y4", {
        symbol: "circle-open", size: 8, color: rgba(base, 0.8),
      }),
      mean(c.shown, c.rate, "y3"),
      dots(c.shown, c.rate, "y3"),
      mean(c.shown, psnr, "y2"),
      dots(c.shown, psnr, "y2"),
    ];
  };

  const structureTraces = (encode) => {
    const t = encode.trace;
    const top = Math.max(...t.bits, 1);
    const groups = new Map();
    t.show_index.forEach((_, i) => {
      if (t.layer[i] < 0) return;
      const kind = t.update_type[i];
      if (!groups.has(kind)) groups.set(kind, []);
      groups.get(kind).push(i);
    });
    const base = colour(encode.method);
    return [...groups].map(([kind, list]) => ({
      x: list.map((i) => t.show_index[i]), y: list.map((i) => t.layer[i]), mode: "markers",
      showlegend: false, yaxis: "y",
      marker: {
        symbol: SYMBOLS[kind] + (t.shown[list[0]] ? "" : "-open"),
        size: list.map((i) => 5 + 17 * Math.sqrt(t.bits[i] / top)),
        color: t.shown[list[0]] ? rgba(base, 0.75) : base, line: { width: 1.5, color: base },
      },
      text: list.map((i) => `<b>frame ${t.show_index[i]}</b>, layer ${t.layer[i]}<br>${hover(t, i)}`),
      hovertemplate: "%{text}<extra></extra>",
    }));
  };

  report.fillTargets = () => {
    const select = report.byId("frames-target");
    if (!select) return;
    const targets = [...new Set(report.clip().encodes.filter((e) => e.trace).map((e) => e.target))];
    targets.sort((a, b) => a - b);
    select.replaceChildren(...targets.map((t) => new Option(`${t} kbit/s`, t)));
    select.value = String(targets[targets.length >> 1] ?? "");
  };

  report.drawFrames = () => {
    const box = report.byId("plot-frames");
    if (!box) return;
    const target = Number(report.byId("frames-target").value);
    const encodes = report.clip().encodes.filter((e) => e.target === target && e.trace);
    box.closest("figure").hidden = encodes.length === 0;
    if (encodes.length === 0) return;
    const traces = [...encodes]
      .sort((a, b) => report.methodIndex.get(b.method) - report.methodIndex.get(a.method))
      .flatMap((e) => methodTraces(e, report.methodIndex.get(e.method)));
    const structured = encodes.find((e) => e.method === data.lead) || encodes[0];
    traces.push(...structureTraces(structured));
    report.byId("structure-method").textContent = structured.method;
    const depth = Math.max(...structured.trace.layer, 1);
    /* Key frames are many times the mean: the axis follows the means and clips the rest. */
    const fps = report.fps(report.clip());
    const means = encodes.flatMap((e) => {
      const c = columns(e, fps);
      return rollingMean(c.rate, c.window);
    });
    const starts = structured.trace.show_index.filter(
      (_, i) => structured.trace.layer[i] >= 0 && structured.trace.layer[i] <= 1,
    );
    const rows = report.narrow() ? 0.06 : 0.045;
    const last = (report.clip().frames || Math.max(...structured.trace.show_index) + 1) - 1;
    const title = (text) => ({ title: { text }, zeroline: false, anchor: "x" });
    report.draw("plot-frames", traces, {
      height: report.narrow() ? 680 : 760,
      xaxis: {
        title: { text: "frame in display order" }, range: [-last * 0.015 - 0.5, last * 1.015 + 0.5],
        zeroline: false, anchor: "y", showspikes: true, spikemode: "across", spikesnap: "data",
        spikethickness: 1, spikedash: "dot", spikecolor: report.css("--muted"),
      },
      yaxis4: { ...title("qindex"), domain: [0.75, 1] },
      yaxis3: {
        ...title("kbit/s"), domain: [0.5 + rows / 2, 0.75 - rows],
        range: [0, Math.max(target, ...means) * 1.35],
      },
      yaxis2: { ...title("PSNR, dB"), domain: [0.25 + rows / 2, 0.5 - rows / 2] },
      yaxis: {
        ...title("layer"), domain: [0, 0.25 - rows], range: [depth + 0.7, -0.7], dtick: 1,
      },
      legend: { ...report.layout({}).legend, traceorder: "reversed" },
      shapes: [
        ...starts.map((x) => ({
          type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", layer: "below",
          line: { color: report.css("--grid-strong"), width: 1 },
        })),
        {
          type: "line", x0: 0, x1: 1, xref: "paper", y0: target, y1: target, yref: "y3",
          line: { color: report.css("--muted"), width: 1.2, dash: "dash" },
        },
      ],
      annotations: [
        {
          x: 1, xref: "paper", xanchor: "right", y: target, yref: "y3", yanchor: "bottom",
          text: "target", showarrow: false, font: { size: 11, color: report.css("--muted") },
        },
      ],
    });
    box.removeAllListeners("plotly_click");
    box.on("plotly_click", (event) => {
      if (report.player) report.player.seek(Math.round(event.points[0].x));
    });
  };

  /* A line over the picture where the player is; moving a shape would draw all anew. */
  report.moveCursor = (frame) => {
    const box = report.byId("plot-frames");
    const cursor = report.byId("cursor");
    if (!cursor || !box || !box._fullLayout || !box._fullLayout.xaxis) return;
    const axis = box._fullLayout.xaxis;
    const size = box._fullLayout._size;
    cursor.style.left = `${axis._offset + axis.l2p(frame)}px`;
    cursor.style.top = `${size.t}px`;
    cursor.style.height = `${size.h}px`;
    cursor.hidden = false;
  };
})();

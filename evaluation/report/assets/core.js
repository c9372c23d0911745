"use strict";
/* What the other scripts share: data, colours, numbers, the state and who listens to it. */
const report = { data: JSON.parse(document.getElementById("data").textContent) };

/* Encodes of one structure of frames share it in the data. */
report.data.clips.forEach((clip) =>
  clip.encodes.filter((e) => e.trace).forEach((e) => {
    Object.assign(e.trace, clip.structures[e.trace.structure]);
  }),
);

report.byId = (id) => document.getElementById(id);

/* The chosen metric and clip; set() tells the listeners what changed. */
report.state = { metric: report.data.metrics[0].name, clip: 0, rd: "curves" };
report.listeners = [];
report.set = (changes) => {
  const changed = Object.keys(changes).filter((key) => report.state[key] !== changes[key]);
  Object.assign(report.state, changes);
  if (changed.length) report.listeners.forEach((listen) => listen(changed));
};
report.clip = () => report.data.clips[report.state.clip];

/* Plain names from a style sheet that knows light and dark. */
report.css = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();
report.methodIndex = new Map(report.data.methods.map((m, i) => [m.name, i]));
report.colour = (method) => report.css(`--m${report.methodIndex.get(method) % 8}`);
report.symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star"];
report.symbol = (method) => report.symbols[report.methodIndex.get(method) % 8];
report.rgba = (hex, alpha) => {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
};

report.signed = (value, digits = 2) => {
  if (value === null || value === undefined) return "n/a";
  const text = Math.abs(value).toFixed(digits);
  const sign = Number(text) === 0 ? "+" : value < 0 ? "\u2212" : "+";
  return `${sign}${text}%`;
};
/* plotly takes a little HTML in its texts: names must not be any. */
report.plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
report.kilobytes = (bytes) => `${(bytes / 1000).toFixed(bytes < 10000 ? 2 : 1)} kB`;
report.deviation = (encode) => (100 * (encode.kbps - encode.target)) / encode.target;
report.encodes = (clip, method) => clip.encodes.filter((e) => e.method === method);
report.fps = (clip) => {
  const [over, under = "1"] = String(clip.fps || "25").split("/");
  return Number(over) / Number(under);
};
report.bd = (clip, method, metric) =>
  clip.bd.find((b) => b.method === method && b.metric === metric) || null;
report.againstControl = (clip, metric) => {
  const found = clip.against_control.find(
    (b) => b.method === report.data.lead && b.metric === metric,
  );
  return found ? found.percent : null;
};
report.meanOff = (clip) => {
  const off = report.encodes(clip, report.data.lead).map((e) => Math.abs(report.deviation(e)));
  return off.length ? off.reduce((a, b) => a + b, 0) / off.length : null;
};

/* plotly.js lies beside the page as a packed string, see page.py. */
report.loadLibrary = async () => {
  const packed = Uint8Array.from(atob(window.PLOTLY_GZIP), (c) => c.charCodeAt(0));
  delete window.PLOTLY_GZIP;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
};

"use strict";
/* Puts the parts together once the plot library is there. */
(() => {
  const { data, byId } = report;

  const pictures = () => {
    report.drawRd();
    report.drawLanding();
    report.drawBd();
    clipPictures();
    if (report.drawLottery) report.drawLottery();
  };
  const clipPictures = () => {
    report.drawClipRd();
    report.drawClipLanding();
    report.drawFrames();
    if (report.player) report.moveCursor(report.player.state().a);
  };
  const titles = () => {
    const clip = report.clip();
    const size = clip.width ? `${clip.width} × ${clip.height}, ${clip.frames} frames` : "";
    byId("clip-title").textContent = clip.name;
    byId("clip-title").dataset.size = size;
    document.querySelectorAll("[data-clip]").forEach((s) => (s.value = report.state.clip));
  };

  report.openClip = (index) => {
    report.set({ clip: index });
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    byId("clip").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    byId("clip-title").focus({ preventScroll: true });
  };

  document.querySelectorAll("[data-clip]").forEach((select) =>
    select.addEventListener("change", () => report.set({ clip: Number(select.value) })),
  );
  document.querySelectorAll("[data-metric]").forEach((select) =>
    select.addEventListener("change", () => report.set({ metric: select.value })),
  );
  document.querySelectorAll("[data-rd]").forEach((select) =>
    select.addEventListener("change", () => report.set({ rd: select.value })),
  );
  if (byId("frames-target")) byId("frames-target").addEventListener("change", report.drawFrames);

  /* The clip to begin with is neither the best nor the worst: the middle one. */
  const middle = () => {
    const ranked = data.clips
      .map((clip, i) => [report.bd(clip, data.lead, report.state.metric), i])
      .filter(([found]) => found && found.percent !== null)
      .sort(([a], [b]) => a.percent - b.percent);
    return ranked.length ? ranked[ranked.length >> 1][1] : 0;
  };

  report.state.clip = middle();
  titles();
  report.startTable();
  if (report.player) report.player.fill();

  report.ready = report.loadLibrary().then(() => {
    report.fillTargets();
    pictures();
    report.listeners.push((changed) => {
      if (changed.includes("clip")) {
        titles();
        report.fillTargets();
      }
      if (changed.includes("rd")) {
        document.querySelectorAll("[data-rd]").forEach((s) => (s.value = report.state.rd));
      }
      if (changed.includes("metric")) report.drawBd();
      report.drawRd();
      if (changed.includes("clip")) clipPictures();
      else report.drawClipRd();
    });
    /* plotly fits itself to the width; what else depends on it is drawn anew. */
    let narrow = report.narrow();
    window.addEventListener("resize", () => {
      if (report.narrow() !== narrow) {
        narrow = report.narrow();
        pictures();
      } else if (report.player) report.moveCursor(report.player.state().a);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", pictures);
    document.documentElement.dataset.ready = "yes";
  });
})();

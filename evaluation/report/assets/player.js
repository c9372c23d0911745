"use strict";
/* Two encodes on top of each other, in step: the left one leads, the right one follows. */
(() => {
  if (!report.byId("player")) return;
  const { data, byId } = report;
  const sides = ["a", "b"];
  const video = { a: byId("video-a"), b: byId("video-b") };
  const encode = { a: null, b: null };
  const shown = { a: 0, b: 0 }; // the frame that each side presents
  const stage = byId("stage");
  const divider = byId("divider");
  const canvas = byId("difference");
  let split = 50;
  let view = "split";
  let playing = false;
  let seeking = 0; // the latest seek; older ones give up
  let fps = 25;
  let last = 0;

  /* ------------------------------------------------------------ what is played */

  const streams = () => report.clip().encodes.filter((e) => e.stream);
  const label = (e) => `${e.method}, ${e.kbps.toFixed(e.kbps < 100 ? 1 : 0)} kbit/s`;

  /* The encode of a method that is nearest in size; not the same stream, which two methods may
     well make. */
  const nearest = (to, method) => {
    const others = streams().filter((e) => e.method === method && e.sha256 !== to.sha256);
    return others.reduce(
      (best, e) =>
        best === null || Math.abs(Math.log(e.bytes / to.bytes)) < Math.abs(Math.log(best.bytes / to.bytes))
          ? e : best,
      null,
    );
  };

  /* Of all pairs of lead and anchor the nearest in size, without the ends of the range, where
     there is either nothing to see or nothing else. */
  const fairest = () => {
    const mine = streams().filter((e) => e.method === data.lead).sort((x, y) => x.bytes - y.bytes);
    const inner = mine.length > 3 ? mine.slice(0, -1) : mine;
    const pairs = inner
      .map((e) => [nearest(e, data.anchor), e])
      .filter(([other]) => other !== null)
      .sort(([a, x], [b, y]) => Math.abs(Math.log(a.bytes / x.bytes)) - Math.abs(Math.log(b.bytes / y.bytes)));
    return pairs[0] || [streams()[0], streams()[1] || streams()[0]];
  };

  const load = (side, chosen) => {
    encode[side] = chosen;
    byId(`pick-${side}`).value = String(streams().indexOf(chosen));
    video[side].src = chosen.stream;
    video[side].setAttribute("aria-label", label(chosen));
    byId(`tag-${side}`).textContent = label(chosen);
    byId(`tag-${side}`).style.setProperty("--colour", report.colour(chosen.method));
    const command = chosen.command || "no muzero-rc encode has all of its settings";
    byId(`command-${side}`).textContent = command;
  };

  const describe = () => {
    const [a, b] = [encode.a, encode.b];
    const percent = (100 * (b.bytes - a.bytes)) / a.bytes;
    const metric = data.metrics.find((m) => m.name === report.state.metric);
    const gain = b.quality[metric.name] - a.quality[metric.name];
    const sizes = `${report.kilobytes(a.bytes)} left, ${report.kilobytes(b.bytes)} right (${report.signed(percent, 1)})`;
    const quality = Number.isFinite(gain)
      ? `; ${metric.label} ${gain < 0 ? "\u2212" : "+"}${Math.abs(gain).toFixed(2)}${metric.unit ? ` ${metric.unit}` : ""} on the right`
      : "";
    const unfair = Math.abs(percent) > 5
      ? " No pair here is nearer: part of what you see is size."
      : "";
    const free = nearest(a, b.method) !== b ? " Not the nearest sizes." : unfair;
    byId("balance").textContent = sizes + quality + "." + (Math.abs(percent) > 5 ? free : "");
  };

  const fill = () => {
    const list = streams();
    byId("player").hidden = list.length === 0;
    pause();
    if (list.length === 0) return;
    for (const side of sides) {
      const groups = data.methods.map((m) => {
        const group = document.createElement("optgroup");
        group.label = m.name;
        list.forEach((e, i) => {
          if (e.method === m.name) group.append(new Option(`${label(e)}, ${report.kilobytes(e.bytes)}`, i));
        });
        return group;
      });
      byId(`pick-${side}`).replaceChildren(...groups.filter((g) => g.children.length));
    }
    const clip = report.clip();
    fps = report.fps(clip);
    last = Math.max(0, (clip.frames || 1) - 1);
    stage.style.setProperty("--aspect", `${clip.width} / ${clip.height}`);
    canvas.width = clip.width;
    canvas.height = clip.height;
    byId("seek").max = last;
    const [a, b] = fairest();
    load("a", a);
    load("b", b);
    describe();
    /* Where pictures usually differ: not the first frame, which takes most of the bits. */
    seek(Math.round(last * 0.6));
  };

  const pick = (side) => {
    const chosen = streams()[Number(byId(`pick-${side}`).value)];
    const at = shown.a;
    pause();
    load(side, chosen);
    if (side === "a") {
      const other = nearest(chosen, encode.b.method);
      if (other) load("b", other);
    }
    describe();
    seek(at);
  };

  /* ------------------------------------------------------------ where it is */

  const timeOf = (frame) => (frame + 0.5) / fps; // the middle: rounding cannot miss it
  const frameOf = (time) => Math.min(last, Math.max(0, Math.round(time * fps)));

  const tell = () => {
    const frame = shown.a;
    if (document.activeElement !== byId("seek") || playing) byId("seek").value = frame;
    byId("seek").setAttribute("aria-valuetext", `frame ${frame} of ${last}`);
    byId("where").textContent = `${frame} / ${last}`;
    for (const side of sides) {
      const trace = encode[side] && encode[side].trace;
      const i = trace ? report.shownFrame(trace, shown[side]) : -1;
      byId(`readout-${side}`).textContent = i < 0
        ? ""
        : `${report.frameType(trace, i)} · qindex ${trace.qindex[i] < 0 ? "none" : trace.qindex[i]} · ` +
          `${trace.bits[i].toLocaleString("en")} bits · ${trace.psnr[i].toFixed(2)} dB`;
    }
    report.moveCursor(frame);
    if (view === "difference") paintDifference();
  };

  /* Called for every picture that a side presents. */
  const follow = (side) => {
    const heard = (_, frame) => {
      shown[side] = frameOf(frame.mediaTime);
      if (playing) keepStep();
      tell();
      video[side].requestVideoFrameCallback(heard);
    };
    video[side].requestVideoFrameCallback(heard);
  };

  const slowest = 0.0625; // browsers throw at a rate below it

  /* The right side runs a little faster or slower until it is where the left one is. */
  const keepStep = () => {
    const rate = Number(byId("rate").value);
    const behind = (video.a.currentTime - video.b.currentTime) * fps; // frames
    if (Math.abs(behind) > 3) {
      video.b.currentTime = video.a.currentTime;
    }
    const change = Math.abs(behind) < 0.2 ? 0 : Math.max(-0.5, Math.min(0.5, behind * 0.4));
    video.b.playbackRate = Math.max(slowest, rate * (1 + change));
  };

  const arrived = (element) =>
    new Promise((resolve) => {
      const done = () => {
        element.removeEventListener("seeked", done);
        element.removeEventListener("error", done);
        resolve();
      };
      element.addEventListener("seeked", done);
      element.addEventListener("error", done);
    });

  const ready = (element) =>
    element.readyState >= 1
      ? Promise.resolve()
      : new Promise((resolve) => {
          element.addEventListener("loadedmetadata", resolve, { once: true });
          element.addEventListener("error", resolve, { once: true });
        });

  async function seek(frame) {
    const mine = ++seeking;
    const to = Math.min(last, Math.max(0, frame));
    await Promise.all(sides.map((s) => ready(video[s])));
    if (mine !== seeking) return;
    const waits = sides.map((s) => arrived(video[s]));
    sides.forEach((s) => (video[s].currentTime = timeOf(to)));
    await Promise.all(waits);
    if (mine !== seeking) return;
    sides.forEach((s) => (shown[s] = to));
    byId("seek").value = to;
    tell();
  }

  async function play() {
    if (playing) return;
    const rate = Number(byId("rate").value);
    await seek(shown.a >= last ? 0 : shown.a);
    playing = true;
    sides.forEach((s) => (video[s].playbackRate = rate));
    try {
      await Promise.all(sides.map((s) => video[s].play()));
    } catch (error) {
      playing = false;
    }
    button();
  }

  function pause() {
    if (!playing) return;
    playing = false;
    sides.forEach((s) => video[s].pause());
    button();
    seek(shown.a); // both on the same frame
  }

  const button = () => {
    byId("play").textContent = playing ? "Pause" : "Play";
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  };

  const step = (by) => {
    const from = shown.a;
    if (playing) pause();
    return seek(from + by);
  };

  /* ------------------------------------------------------------ how it is shown */

  const setSplit = (percent) => {
    split = Math.min(100, Math.max(0, percent));
    stage.style.setProperty("--split", `${split}%`);
    divider.setAttribute("aria-valuenow", Math.round(split));
    divider.setAttribute("aria-valuetext", `${Math.round(split)} percent left`);
  };

  const setView = (name) => {
    view = name;
    stage.dataset.view = name;
    canvas.hidden = name !== "difference";
    divider.hidden = name !== "split";
    byId("gain-label").hidden = name !== "difference";
    const input = document.querySelector(`[name="view"][value="${name}"]`);
    if (!input.checked) input.checked = true;
    if (name === "difference") paintDifference();
  };

  /* Pixels of files from disk may be drawn, not read: blending does the arithmetic. */
  function paintDifference() {
    const context = canvas.getContext("2d");
    const draw = (source, mode) => {
      context.globalCompositeOperation = mode;
      context.drawImage(source, 0, 0, canvas.width, canvas.height);
    };
    draw(video.a, "copy");
    draw(video.b, "difference");
    /* Adding the picture to itself doubles it. */
    for (let gain = Number(byId("gain").value); gain > 1; gain /= 2) draw(canvas, "lighter");
  }

  const fromPointer = (event) => {
    const box = stage.getBoundingClientRect();
    setSplit((100 * (event.clientX - box.left)) / box.width);
  };

  stage.addEventListener("pointerdown", (event) => {
    if (view !== "split" || event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    fromPointer(event);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) fromPointer(event);
  });

  divider.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
    if (by === undefined) return;
    setSplit(split + by);
    event.preventDefault();
    event.stopPropagation();
  });

  byId("player").addEventListener("keydown", (event) => {
    if (event.target.matches("select, input[type=radio]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.matches("button, summary");
    const act = {
      " ": onButton ? null : () => (playing ? pause() : play()),
      ",": () => step(-1), ".": () => step(1),
      d: () => setView(view === "difference" ? "split" : "difference"),
    }[event.key];
    if (!act) return;
    act();
    event.preventDefault();
  });

  byId("play").addEventListener("click", () => (playing ? pause() : play()));
  byId("back").addEventListener("click", () => step(-1));
  byId("forward").addEventListener("click", () => step(1));
  byId("seek").addEventListener("input", (event) => {
    if (playing) pause();
    seek(Number(event.target.value));
  });
  byId("rate").addEventListener("change", (event) =>
    sides.forEach((s) => (video[s].playbackRate = Number(event.target.value))),
  );
  byId("gain").addEventListener("change", paintDifference);
  byId("pixels").addEventListener("change", (event) => {
    stage.style.setProperty("--pixels", event.target.value);
  });
  document.querySelectorAll("[name=view]").forEach((input) =>
    input.addEventListener("change", () => setView(input.value)),
  );
  for (const side of sides) {
    byId(`pick-${side}`).addEventListener("change", () => pick(side));
    video[side].addEventListener("error", () => {
      byId("stage-error").hidden = false;
      byId("stage-error").textContent =
        `${encode[side].stream} does not play: the file is missing, or this browser knows no VP9.`;
    });
    video[side].addEventListener("ended", async () => {
      if (!playing) return;
      /* Both from the start again, together. */
      playing = false;
      sides.forEach((s) => video[s].pause());
      await seek(0);
      play();
    });
    follow(side);
  }

  report.player = {
    fill, seek, play, pause, step,
    state: () => ({ a: shown.a, b: shown.b, playing, split, view, last, encode: { ...encode } }),
  };
  report.listeners.push((changed) => {
    if (changed.includes("clip")) fill();
    if (changed.includes("metric") && encode.a) describe();
  });
  setSplit(50);
  setView("split");
})();

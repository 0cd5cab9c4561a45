"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const canvas = byId("view");
  const context = canvas.getContext("2d");
  const sliders = ["alpha", "frame", "first", "last", "brightness", "contrast"].map(byId);
  const defaults = new Map();
  let width = 0, height = 0, shown = data.views[0], frames = [], overlays = {}, minipCache = { key: "", grey: null };

  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  const choose = (name, value) => { document.querySelector(`input[name="${name}"][value="${value}"]`).checked = true; };
  const value = (id) => Number(byId(id).value);

  async function grey(address) {
    const image = new Image();
    image.src = address;
    await image.decode();
    width = image.naturalWidth;
    height = image.naturalHeight;
    const scratch = document.createElement("canvas");
    scratch.width = width;
    scratch.height = height;
    const pen = scratch.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const rgba = pen.getImageData(0, 0, width, height).data;
    const values = new Uint8ClampedArray(width * height);
    for (let i = 0; i < values.length; i++) values[i] = rgba[4 * i];
    return values;
  }

  function minip(first, last) {
    const key = `${first}-${last}`;
    if (minipCache.key !== key) {
      const lowest = Uint8ClampedArray.from(frames[first]);
      for (let t = first + 1; t <= last; t++) {
        const frame = frames[t];
        for (let i = 0; i < lowest.length; i++) if (frame[i] < lowest[i]) lowest[i] = frame[i];
      }
      minipCache = { key, grey: lowest };
    }
    return minipCache.grey;
  }

  function outline(mask) {
    const edge = new Uint8ClampedArray(mask.length);
    const inside = (i) => mask[i] > 60;
    for (let r = 1; r < height - 1; r++) {
      for (let c = 1; c < width - 1; c++) {
        const i = r * width + c;
        if (inside(i) && !(inside(i - 1) && inside(i + 1) && inside(i - width) && inside(i + width))) edge[i] = 255;
      }
    }
    return edge;
  }

  // Where the head lay in the frame shown, if it is known and wanted; else where the pose shows it.
  function overlayOf(pose, useMinip) {
    if (pose === "none") return null;
    const followed = !useMinip && pose === "registered" && byId("follow")?.checked && shown.frames[value("frame")].overlay;
    return overlays[followed || pose][byId("outline").checked ? "edge" : "full"];
  }

  function draw() {
    const useMinip = chosen("source") === "minip";
    const base = useMinip ? minip(value("first"), value("last")) : frames[value("frame")];
    const pose = chosen("pose");
    const overlay = overlayOf(pose, useMinip);
    const alpha = value("alpha") / 100;
    const tint = byId("tint").checked;
    const gain = 2 ** (value("contrast") / 50);
    const shift = value("brightness") * 1.28;
    const picture = context.createImageData(width, height);
    const out = picture.data;
    for (let i = 0; i < base.length; i++) {
      const g = Math.min(255, Math.max(0, (base[i] - 128) * gain + 128 + shift));
      const m = overlay ? overlay[i] / 255 : 0;
      let a = alpha * m;
      let ink = data.tint;
      if (!tint) {  // fade from the DSA to the projection drawn like one: dark vessels on light
        a = overlay ? alpha : 0;
        const p = 235 * (1 - m);
        ink = [p, p, p];
      }
      out[4 * i] = g * (1 - a) + ink[0] * a;
      out[4 * i + 1] = g * (1 - a) + ink[1] * a;
      out[4 * i + 2] = g * (1 - a) + ink[2] * a;
      out[4 * i + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    label(useMinip);
  }

  function label(useMinip) {
    const number = (id) => shown.frames[value(id)].number;
    byId("frame-controls").hidden = useMinip;
    byId("minip-controls").hidden = !useMinip || frames.length === 1;
    for (const slider of sliders) {
      const text = { alpha: `${slider.value} %`, brightness: slider.value, contrast: slider.value };
      const frame = shown.frames[slider.value];
      slider.parentElement.querySelector("output").textContent = text[slider.id] ?? `${frame.number} · ${frame.time_s.toFixed(1)} s`;
    }
    const what = useMinip ? (frames.length === 1 ? "Frame 1" : `MinIP of frames ${number("first")}–${number("last")}`) : `Frame ${number("frame")}`;
    const where = { registered: "registered", radiological: "before registration", none: "vessels hidden" }[chosen("pose")];
    byId("stamp").textContent = `${what} · ${where}`;
    const cover = byId("cover");
    if (cover) cover.hidden = chosen("pose") !== "none";
    canvas.dataset.state = JSON.stringify({ source: chosen("source"), pose: chosen("pose"), alpha: value("alpha"), tint: byId("tint").checked });
  }

  function ordered(changed) {
    if (changed === "first" && value("first") > value("last")) byId("last").value = value("first");
    if (changed === "last" && value("last") < value("first")) byId("first").value = value("last");
  }

  let timer = null;
  function play() {
    if (timer) {
      clearInterval(timer);
      timer = null;
    } else {
      timer = setInterval(() => { byId("frame").value = (value("frame") + 1) % frames.length; draw(); }, 150);
    }
    byId("play").textContent = timer ? "Pause" : "Play";
  }

  function step(by) {
    choose("source", "frame");
    byId("frame").value = Math.min(frames.length - 1, Math.max(0, value("frame") + by));
    draw();
  }

  function keys(event) {
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return;
    if (event.target.matches("button, summary, input") && event.key === " ") return;
    if (event.key === " ") choose("pose", chosen("pose") === "none" ? "registered" : "none");
    else if (event.key === "b") choose("pose", chosen("pose") === "radiological" ? "registered" : "radiological");
    else if (event.key === "ArrowRight" && frames.length > 1) return step(1);
    else if (event.key === "ArrowLeft" && frames.length > 1) return step(-1);
    else return;
    event.preventDefault();
    draw();
  }

  function reset() {
    for (const [input, state] of defaults) Object.assign(input, state);
    byId("last").value = frames.length - 1;
    if (timer) play();
    draw();
  }

  async function show(number) {
    shown = data.views[number];
    frames = await Promise.all(shown.frames.map((frame) => grey(frame.image)));
    for (const [name, address] of Object.entries(shown.overlays)) {
      const full = await grey(address);
      overlays[name] = { full, edge: outline(full) };
    }
    minipCache = { key: "", grey: null };
    canvas.width = width;
    canvas.height = height;
    canvas.parentElement.style.aspectRatio = `${width} / ${height}`;
    for (const [edge, letters] of Object.entries(shown.letters)) document.querySelector(`.edge.${edge}`).textContent = letters;
    document.querySelector(".scale").style.width = `${shown.scale_bar_percent}%`;
    for (const [id, at] of [["frame", 0], ["first", 0], ["last", frames.length - 1]]) {
      byId(id).max = frames.length - 1;
      byId(id).value = at;
    }
    const single = document.querySelector('input[name="source"][value="frame"]');
    single.disabled = frames.length === 1;
    if (single.disabled) choose("source", "minip");
  }

  async function change(number) {
    if (timer) play();
    await show(number);
    draw();
    document.body.dataset.shown = number;
  }

  async function start() {
    await show(0);
    for (const input of document.querySelectorAll('input[name="shown"]')) input.addEventListener("input", () => change(Number(input.value)));
    for (const input of document.querySelectorAll('.controls input:not([name="shown"])')) {
      defaults.set(input, input.type === "range" ? { value: input.value } : { checked: input.checked });
      input.addEventListener("input", () => { ordered(input.id); draw(); });
    }
    byId("play").addEventListener("click", play);
    byId("show-anyway")?.addEventListener("click", () => { choose("pose", "registered"); draw(); });
    byId("reset").addEventListener("click", reset);
    document.addEventListener("keydown", keys);
    draw();
    document.body.dataset.ready = "yes";
  }
  start();
})();

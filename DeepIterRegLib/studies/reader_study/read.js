"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const comparisons = data.comparisons;
  const KEPT = `reader-study-${data.study}`;
  const COLUMNS = ["reader", "comparison", "rank", "comment", "seconds"];
  let answers = {};  // comparison -> { rank, comment, seconds }
  let at = 0, since = performance.now(), shown = null, hiding = false;
  let zoom = 1, shiftX = 0, shiftY = 0;

  // -- answers ---------------------------------------------------------------------------------

  function keep() {
    try { localStorage.setItem(KEPT, JSON.stringify(answers)); } catch { /* private windows keep nothing */ }
  }

  function recall() {
    try { answers = JSON.parse(localStorage.getItem(KEPT) ?? "{}"); } catch { answers = {}; }
  }

  function answer(rank) {
    if (!shown) return;
    const seconds = Math.round((performance.now() - since) / 100) / 10;
    answers[comparisons[at].id] = { rank, comment: byId("comment").value.trim(), seconds };
    keep();
    if (at < comparisons.length - 1) go(at + 1); else report();
  }

  function csv() {
    // A spreadsheet would compute what begins like a formula: a quote in front stops it (`common/tables.py` takes it off again).
    const harmless = (text) => text.replace(/((?:^|[;\t\r\n])\s*)('*[=+\-@\uff1d\uff0b\uff0d\uff20](?=.))/g, "$1'$2");
    const plain = (value) => (typeof value === "string" && Number.isNaN(Number(value)) ? harmless(value) : String(value));
    const cell = (value) => (/[",\n\r]/.test(plain(value)) ? `"${plain(value).replaceAll('"', '""')}"` : plain(value));
    const rows = comparisons.filter((c) => answers[c.id]).map((c) => {
      const { rank, comment, seconds } = answers[c.id];
      return [data.reader, c.id, rank, comment.replace(/\s+/g, " "), seconds].map(cell).join(",");
    });
    return [COLUMNS.join(","), ...rows, ""].join("\n");
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = `ranks_${data.reader}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function cells(text) {  // of a CSV file, quotes included
    const rows = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      const row = rows.at(-1), c = text[i];
      if (quoted) {
        if (c === '"' && text[i + 1] === '"') { row[row.length - 1] += c; i++; }
        else if (c === '"') quoted = false;
        else row[row.length - 1] += c;
      } else if (c === '"') quoted = true;
      else if (c === ",") row.push("");
      else if (c === "\n") rows.push([""]);
      else if (c !== "\r") row[row.length - 1] += c;
    }
    return rows;
  }

  function asMeant(text) {  // inverse of `harmless` in `csv`
    return text.replace(/((?:^|[;\t\r\n])\s*)'('*[=+\-@\uff1d\uff0b\uff0d\uff20](?=.))/g, "$1$2");
  }

  function load(text) {
    const known = new Set(comparisons.map((c) => c.id));
    const [header, ...rows] = cells(text.replace(/^\ufeff/, ""));
    const column = (name) => header.indexOf(name);
    let count = 0;
    for (const row of rows) {
      const rank = Number(row[column("rank")]), id = row[column("comparison")];
      if (!known.has(id) || ![1, 2, 3, 4, 5].includes(rank)) continue;
      answers[id] = { rank, comment: asMeant(row[column("comment")] ?? ""), seconds: Number(row[column("seconds")]) || 0 };
      count++;
    }
    if (!count) return alert("This file has no answers to this study.");
    keep();
    resume();
  }

  function resume() {
    const open = comparisons.findIndex((c) => !answers[c.id]);
    go(open < 0 ? comparisons.length - 1 : open);
  }

  // -- pictures --------------------------------------------------------------------------------

  async function pixels(address, width, height) {
    const image = new Image();
    image.src = address;
    await image.decode();
    const scratch = document.createElement("canvas");
    scratch.width = width ?? image.naturalWidth;
    scratch.height = height ?? image.naturalHeight;
    const pen = scratch.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0, scratch.width, scratch.height);
    return pen.getImageData(0, 0, scratch.width, scratch.height);
  }

  function grey(picture) {
    const values = new Uint8ClampedArray(picture.width * picture.height);
    for (let i = 0; i < values.length; i++) values[i] = picture.data[4 * i];
    return values;
  }

  async function pictures(comparison) {
    const left = await pixels(data.pictures[comparison.left]);
    const right = await pixels(data.pictures[comparison.right]);
    const { width, height } = left;
    if (!comparison.run) return { width, height, left, right, run: null };
    const run = data.runs[comparison.run];
    const frames = await Promise.all(run.frames.map(async (frame) => grey(await pixels(frame, width, height))));
    const minip = grey(await pixels(run.minip, width, height));
    return { width, height, left: grey(left), right: grey(right), run: { frames, minip } };
  }

  const number = (id) => Number(byId(id).value);

  function background() {
    const { frames, minip } = shown.run;
    if (!byId("minip").checked) return frames[number("frame")];
    const first = number("first"), last = number("last");
    if (first === 0 && last === frames.length - 1) return minip;
    const lowest = Uint8ClampedArray.from(frames[first]);
    for (let t = first + 1; t <= last; t++) for (let i = 0; i < lowest.length; i++) lowest[i] = Math.min(lowest[i], frames[t][i]);
    return lowest;
  }

  function blended(base, vessels) {
    const out = new ImageData(shown.width, shown.height);
    const alpha = hiding ? 0 : number("alpha") / 100, tint = byId("tint").checked, bright = 2 ** (number("brightness") / 50);
    for (let i = 0; i < base.length; i++) {
      const m = Math.min(1, (vessels[i] / 255) * bright);
      const a = tint ? alpha * m : alpha;  // without tint: fade to the projection, dark vessels on light
      for (let c = 0; c < 3; c++) out.data[4 * i + c] = base[i] * (1 - a) + (tint ? data.tint[c] : 235 * (1 - m)) * a;
      out.data[4 * i + 3] = 255;
    }
    return out;
  }

  function draw() {
    if (!shown) return;
    const base = shown.run && background();
    for (const side of ["left", "right"]) {
      const canvas = byId(side);
      canvas.width = shown.width;
      canvas.height = shown.height;
      canvas.getContext("2d").putImageData(base ? blended(base, shown[side]) : shown[side], 0, 0);
    }
    const minip = byId("minip").checked;
    byId("frameTool").hidden = minip;
    byId("firstTool").hidden = byId("lastTool").hidden = !minip;
    for (const id of ["alpha", "brightness", "frame", "first", "last"]) {
      byId(id).parentElement.querySelector("output").textContent = id === "alpha" ? `${number(id)} %` : number(id) + (id === "brightness" ? 0 : 1);
    }
  }

  function move() {
    for (const side of ["left", "right"]) byId(side).style.transform = `translate(${shiftX}px, ${shiftY}px) scale(${zoom})`;
  }

  function fit() {
    zoom = 1; shiftX = 0; shiftY = 0;
    move();
  }

  // -- the comparison shown ----------------------------------------------------------------------

  function report() {
    const count = comparisons.filter((c) => answers[c.id]).length;
    byId("progress").textContent = `Comparison ${at + 1} of ${comparisons.length} · ${count} answered`;
    byId("bar").style.width = `${(100 * count) / comparisons.length}%`;
    byId("done").hidden = count < comparisons.length;
    byId("back").disabled = at === 0;
    byId("next").disabled = at === comparisons.length - 1 || !answers[comparisons[at].id];
    byId("download").disabled = !count;
    const given = answers[comparisons[at].id];
    for (const button of byId("ranks").children) button.classList.toggle("chosen", given?.rank === Number(button.dataset.rank));
  }

  async function go(to) {
    at = to;
    shown = null;  // no answer to a picture that is not there yet
    byId("comment").value = answers[comparisons[at].id]?.comment ?? "";
    const found = await pictures(comparisons[to]);
    if (at !== to) return;
    shown = found;
    byId("tools").hidden = !shown.run;
    const last = shown.run ? shown.run.frames.length - 1 : 0;
    for (const id of ["frame", "first", "last"]) byId(id).max = last;
    byId("first").value = 0;
    byId("last").value = last;
    byId("frame").value = Math.floor(last / 2);
    hiding = false;
    fit();
    draw();
    report();
    since = performance.now();
    document.body.dataset.shown = comparisons[to].id;
  }

  function keys(event) {
    if (event.target.matches('input[type="text"]')) {
      if (event.key === "Enter" || event.key === "Escape") event.target.blur();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (/^[1-5]$/.test(event.key)) answer(Number(event.key));
    else if (event.target.matches('input[type="range"]')) return;
    else if (event.key === "ArrowLeft" || event.key === "Backspace") byId("back").click();
    else if (event.key === "ArrowRight") byId("next").click();
    else if (event.key === " " && !event.target.matches("button, input")) { hiding = !hiding; draw(); }
    else return;
    event.preventDefault();
  }

  for (const button of byId("ranks").children) button.addEventListener("click", () => { answer(Number(button.dataset.rank)); button.blur(); });
  byId("back").addEventListener("click", () => { if (at > 0) go(at - 1); });
  byId("next").addEventListener("click", () => { if (at < comparisons.length - 1 && answers[comparisons[at].id]) go(at + 1); });
  byId("fit").addEventListener("click", fit);
  byId("download").addEventListener("click", download);
  byId("load").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", async () => { if (byId("file").files[0]) load(await byId("file").files[0].text()); });
  byId("tools").addEventListener("input", (event) => {
    if (event.target.id === "first" && number("first") > number("last")) byId("last").value = number("first");
    if (event.target.id === "last" && number("last") < number("first")) byId("first").value = number("last");
    draw();
  });
  document.addEventListener("keydown", keys);
  for (const box of document.querySelectorAll(".side")) {
    box.addEventListener("wheel", (event) => {
      event.preventDefault();
      const frame = box.getBoundingClientRect(), factor = 1.0015 ** -event.deltaY;
      const next = Math.min(12, Math.max(1, zoom * factor)), x = event.clientX - frame.left, y = event.clientY - frame.top;
      shiftX = x - (x - shiftX) * (next / zoom);
      shiftY = y - (y - shiftY) * (next / zoom);
      zoom = next;
      if (zoom === 1) shiftX = shiftY = 0;
      move();
    }, { passive: false });
    box.addEventListener("pointermove", (event) => {
      if (!event.buttons) return;
      shiftX += event.movementX;
      shiftY += event.movementY;
      move();
    });
  }
  recall();
  window.readerStudy = { csv, load };
  resume();
})();

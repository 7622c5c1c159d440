// The page: sends each image to v1/read, and shows what was read on it. An image that the server would find too
// large is made smaller; one that this browser cannot show is shown as the server sees it. Clips go to v1/events
// (clips.js).

import { isClip, readClip } from "./clips.js";
import { bitmap, byId, encoded, fail, inWords, limits, withKey } from "./common.js";
import { described, drawn } from "./plates.js";

const AT_ONCE = 3;
// Phones draw nothing on a larger canvas.
const LARGEST_CANVAS = 16_777_216;
const NAMED = 20;
const results = byId("results");
const status = byId("status");
const waiting = [];
const counts = { image: [0, 0], clip: [0, 0] };
// Images are read side by side, clips one after the other.
let clips = Promise.resolve();
// Ends the clips of before, when all results are cleared.
let cleared = new AbortController();
let running = 0;

function say() {
  const [done, asked] = [0, 1].map((i) => counts.image[i] + counts.clip[i]);
  const parts = Object.entries(counts)
    .filter(([, [, count]]) => count)
    .map(([kind, [, count]]) => `${count} ${kind}${count === 1 ? "" : "s"}`);
  if (asked === 0) status.textContent = "";
  else status.textContent = done < asked ? `Reading: ${done} of ${asked}` : `${parts.join(" and ")} read`;
}

function add(files, nameOf = (file) => file.name) {
  const added = [...files];
  if (!added.length) return;
  byId("results-part").hidden = false;
  for (const file of added) {
    const kind = isClip(file) ? "clip" : "image";
    const item = byId(kind === "clip" ? "clip-template" : "result-template").content.firstElementChild.cloneNode(true);
    item.querySelector(".name").textContent = nameOf(file) || "pasted image";
    item.querySelector(".note").textContent = "waiting …";
    item.setAttribute("aria-busy", "true");
    results.append(item);
    counts[kind][1] += 1;
    if (kind === "clip") addClip(file, item);
    else waiting.push([file, item]);
  }
  say();
  while (running < AT_ONCE && waiting.length) next();
}

async function next() {
  const [file, item] = waiting.shift();
  running += 1;
  await finished("image", item, () => read(file, item));
  running -= 1;
  if (waiting.length) next();
}

function addClip(file, item) {
  const stopping = new AbortController();
  item.querySelector(".stop").addEventListener("click", () => stopping.abort());
  const signal = AbortSignal.any([stopping.signal, cleared.signal]);
  clips = clips.then(() => finished("clip", item, () => readClip(file, item, signal)));
}

// Waits until a file is read, and counts it unless the results were cleared meanwhile.
async function finished(kind, item, work) {
  const { signal } = cleared;
  try {
    await work();
  } catch (error) {
    console.error(error);
    fail(item, `The ${kind} could not be shown.`);
  }
  item.removeAttribute("aria-busy");
  item.querySelectorAll(".stop, progress").forEach((each) => { each.hidden = true; });
  if (signal.aborted) return;
  counts[kind][0] += 1;
  say();
}

async function read(file, item) {
  item.querySelector(".note").textContent = "reading …";
  const image = await bitmap(file);
  try {
    const sent = image ? await fitting(file, image) : file;
    if (!image && file.size > limits.bytes) {
      fail(item, `The file is larger than ${Math.floor(limits.bytes / 2 ** 20)} MiB, which this server accepts, and this browser cannot make it smaller.`);
      return;
    }
    await readBlob(sent, image, item);
  } finally {
    image?.close();
  }
}

// The file, or a smaller JPEG of it where it exceeds the server's limits.
async function fitting(file, image) {
  const area = image.width * image.height;
  let scale = Math.min(1, limits.side / Math.max(image.width, image.height), Math.sqrt(limits.pixels / area));
  if (scale === 1 && file.size <= limits.bytes) return file;
  scale = Math.min(scale, Math.sqrt(LARGEST_CANVAS / area));
  const canvas = document.createElement("canvas");
  for (;;) {
    canvas.width = Math.max(1, Math.floor(image.width * scale));
    canvas.height = Math.max(1, Math.floor(image.height * scale));
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await encoded(canvas, 0.92);
    // A server may accept less than any image needs.
    if (blob.size <= limits.bytes || scale < 0.05) return blob;
    scale *= 0.8;
  }
}

async function readBlob(file, image, item) {
  const headers = withKey(file.type.startsWith("image/") ? file.type : "application/octet-stream");
  const started = performance.now();
  let response, answer;
  try {
    response = await fetch(image ? "v1/read" : "v1/read?preview=true", { method: "POST", headers, body: file });
    answer = await response.json();
  } catch {
    fail(item, "The server cannot be reached. Check that it is running and try again.");
    return;
  }
  const elapsed = performance.now() - started;
  const error = answer.error || answer.results[0].error;
  if (error) {
    fail(item, inWords(error, response.status));
    return;
  }
  const result = answer.results[0];
  if (image) {
    await show(image, item, result, elapsed);
    return;
  }
  const preview = result.preview
    ? await bitmap(new Blob([Uint8Array.from(atob(result.preview), (c) => c.charCodeAt(0))], { type: "image/jpeg" }))
    : null;
  await show(preview, item, result, elapsed);
  preview?.close();
}

async function show(image, item, result, elapsed) {
  const plates = result.plates;
  const count = plates.length === 0 ? "No plate was found" : plates.length === 1 ? "1 plate" : `${plates.length} plates`;
  item.querySelector(".note").textContent =
    `${count} · ${Math.max(1, Math.round(elapsed))} ms, of which ${Math.max(1, Math.round(result.timings.compute_ms))} ms to read`;
  for (const text of remarks(image, result)) {
    const remark = document.createElement("p");
    remark.className = "remark";
    remark.textContent = text;
    item.querySelector(".result-body").before(remark);
  }
  if (image) item.querySelector(".view").append(await drawn(image, result));
  plates.forEach((plate, i) => item.querySelector(".plates").append(described(image, result, plate, i)));
  if (result.id) askAbout(item, result);
}

function remarks(image, result) {
  const found = (result.warnings || []).map((text) => `The file ${text.replace("the image: ", "")}.`);
  if (!image) found.push("This browser cannot show the image.");
  // A preview is smaller than the image, never larger.
  if (image && image.width > result.width) {
    found.push(`It was sent with ${result.width} × ${result.height} of its ${image.width} × ${image.height} pixels, as this server accepts no more.`);
  }
  return found;
}

// Feedback: only where the server keeps the image, and so has given it an id.
function askAbout(item, result) {
  item.querySelectorAll(".plate").forEach((each, number) => {
    const form = each.querySelector(".feedback");
    const [right, wrong] = [form.querySelector(".right"), form.querySelector(".wrong")];
    const name = result.plates[number].plate || `plate ${number + 1}`;
    form.hidden = false;
    form.setAttribute("aria-label", `Feedback on ${name}`);
    right.addEventListener("click", () => tell(right, { id: result.id, plate: number, verdict: "right" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = form.elements.text.value.trim() || null;
      tell(wrong, { id: result.id, plate: number, verdict: "wrong", text });
    });
  });
  const about = item.querySelector(".about");
  about.hidden = false;
  for (const [button, verdict] of [[".none-missed", "right"], [".missed", "missed"]]) {
    about.querySelector(button).addEventListener("click", (event) => tell(event.target, { id: result.id, verdict }));
  }
  about.querySelector(".forget").addEventListener("click", (event) => forget(item, event.target, result.id));
}

async function tell(button, given) {
  const part = button.closest(".feedback, .about");
  const said = part.querySelector(".said");
  const answer = await ask(said, "v1/feedback", {
    method: "POST", headers: withKey("application/json"), body: JSON.stringify(given),
  });
  if (!answer) return;
  part.querySelectorAll(".answers button").forEach((each) => each.setAttribute("aria-pressed", each === button));
  said.textContent = answer.text ? `Thank you. Stored as ${answer.text}.` : "Thank you. Stored.";
}

async function forget(item, button, id) {
  const said = item.querySelector(".about .said");
  const answer = await ask(said, `v1/feedback/${id}`, { method: "DELETE", headers: withKey() });
  if (!answer) return;
  item.querySelectorAll(".feedback, .about .answers, .about p:not(.said)").forEach((each) => { each.hidden = true; });
  said.textContent = "The server has deleted the image and all its data.";
  button.hidden = true;
}

// What the server answers, or nothing where it refuses: then that is said.
async function ask(said, path, request) {
  said.className = "said";
  said.textContent = "…";
  try {
    const response = await fetch(path, request);
    const answer = response.status === 204 ? {} : await response.json();
    if (response.ok) return answer;
    said.textContent = feedbackInWords(answer.error);
  } catch {
    said.textContent = "The server cannot be reached. Nothing was stored.";
  }
  said.classList.add("error");
  return null;
}

function feedbackInWords(error) {
  if (error.code === "unknown_id") return "The server no longer has this image.";
  if (error.code === "unauthorized") return "This server requires an API key; enter it above.";
  return `Not stored: ${error.message}.`;
}

for (const id of ["pick", "shoot", "clip"]) {
  byId(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
}
const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (name === "drop" || event.relatedTarget === null) drop.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  // What was dropped is there during the event only.
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const folders = entries.filter((entry) => entry.isDirectory);
  if (!folders.length) {
    add(event.dataTransfer.files);
    return;
  }
  addEntries(entries);
});

// Files and folders with all below them; of what is in a folder, images only.
async function addEntries(entries) {
  const others = [];
  for (const entry of entries) {
    try {
      if (entry.isDirectory) await addFolder(entry, others);
      else add([await fileOf(entry)]);
    } catch (error) {
      console.warn(error);
      others.push(`${entry.name} (cannot be opened)`);
    }
  }
  const more = others.length > NAMED ? ` and ${others.length - NAMED} more` : "";
  byId("left-out").textContent = others.length
    ? `${others.length} ${others.length === 1 ? "file is" : "files are"} left out, no image by name: ${others.slice(0, NAMED).join(", ")}${more}`
    : "";
}

async function addFolder(folder, others) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    // It gives some at a time, and in the end none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  const suffixes = limits.suffixes.split(",");
  for (const entry of entries.filter((each) => each.isFile)) {
    const name = entry.name.toLowerCase();
    if (!name.startsWith(".") && suffixes.some((suffix) => name.endsWith(suffix))) {
      add([await fileOf(entry)], () => entry.fullPath.slice(1));
    } else {
      others.push(entry.fullPath.slice(1));
    }
  }
  for (const entry of entries.filter((each) => each.isDirectory)) await addFolder(entry, others);
}

function fileOf(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

document.addEventListener("paste", (event) => add(event.clipboardData.files));
byId("clear").addEventListener("click", () => {
  waiting.length = 0;
  cleared.abort();
  cleared = new AbortController();
  results.querySelectorAll(".view img").forEach((view) => URL.revokeObjectURL(view.src));
  results.replaceChildren();
  byId("left-out").textContent = "";
  counts.image = [0, 0];
  counts.clip = [0, 0];
  byId("results-part").hidden = true;
  say();
  byId("pick").focus();
});

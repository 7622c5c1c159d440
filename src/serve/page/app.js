// The page: sends each image to v1/read, and shows what was read on it. An image that the server would find too
// large is made smaller; one that this browser cannot show is shown as the server sees it.

const CANTONS = {
  AG: "Aargau", AI: "Appenzell Innerrhoden", AR: "Appenzell Ausserrhoden", BE: "Bern",
  BL: "Basel-Landschaft", BS: "Basel-Stadt", FR: "Fribourg", GE: "Geneva", GL: "Glarus",
  GR: "Graubünden", JU: "Jura", LU: "Lucerne", NE: "Neuchâtel", NW: "Nidwalden", OW: "Obwalden",
  SG: "St. Gallen", SH: "Schaffhausen", SO: "Solothurn", SZ: "Schwyz", TG: "Thurgau", TI: "Ticino",
  UR: "Uri", VD: "Vaud", VS: "Valais", ZG: "Zug", ZH: "Zurich",
};
// From this probability on; the words a person would use.
const CERTAINTY = [
  [0.99, "very sure", "sure"], [0.9, "fairly sure", "sure"], [0.5, "not quite sure", "fair"],
  [0, "a guess", "poor"],
];
const AT_ONCE = 3;
const LARGEST_VIEW = 1280;
const CUT_HEIGHT = 72;
// Phones draw nothing on a larger canvas.
const LARGEST_CANVAS = 16_777_216;
const NAMED = 20;
const SHIELD =
  '<svg viewBox="0 0 20 24" aria-hidden="true"><path d="M0 0h20v11c0 6-5 10-10 13C5 21 0 17 0 11z" ' +
  'fill="#d1222b"/><path d="M8 4h4v4h4v4h-4v4H8v-4H4V8h4z" fill="#fff"/></svg>';

const byId = (id) => document.getElementById(id);
const limits = byId("limits").dataset;
const results = byId("results");
const status = byId("status");
const waiting = [];
let running = 0, done = 0, asked = 0;

function say() {
  if (asked === 0) { status.textContent = ""; return; }
  status.textContent = done < asked ? `Reading: ${done} of ${asked}`
    : `${asked} ${asked === 1 ? "image" : "images"} read`;
}

function add(files, nameOf = (file) => file.name) {
  const images = [...files];
  if (!images.length) return;
  byId("results-part").hidden = false;
  for (const file of images) {
    const item = byId("result-template").content.firstElementChild.cloneNode(true);
    item.querySelector(".name").textContent = nameOf(file) || "pasted image";
    item.querySelector(".note").textContent = "waiting …";
    item.setAttribute("aria-busy", "true");
    results.append(item);
    waiting.push([file, item]);
    asked += 1;
  }
  say();
  while (running < AT_ONCE && waiting.length) next();
}

async function next() {
  const [file, item] = waiting.shift();
  running += 1;
  try {
    await read(file, item);
  } catch (error) {
    console.error(error);
    fail(item, "The image could not be shown.");
  }
  item.removeAttribute("aria-busy");
  running -= 1;
  done += 1;
  say();
  if (waiting.length) next();
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

// The image as this browser shows it, or nothing: few show HEIC.
async function bitmap(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    return null;
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

function encoded(canvas, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no memory for the image"))), "image/jpeg", quality);
  });
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

function withKey(kind) {
  const headers = kind ? { "Content-Type": kind } : {};
  if (byId("key").value) headers["X-API-Key"] = byId("key").value;
  return headers;
}

function inWords(error, code) {
  const words = {
    unsupported_format: `The file ${error.message.replace("the image: ", "")}.`,
    damaged_image: `The file ${error.message.replace("the image: ", "")}.`,
    image_too_large: `The image is too large: ${error.message}.`,
    body_too_large: "The file is too large for this server.",
    unauthorized: "This server requires an API key; enter it above.",
    rate_limited: "You have sent too many images. Wait a moment and try again.",
    no_file: "The file is empty.",
  };
  if (words[error.code]) return words[error.code];
  return code === 503 ? "The server is busy. Try again in a moment." : `The server refused the request: ${error.message}.`;
}

function fail(item, text) {
  const note = item.querySelector(".note");
  note.textContent = text;
  note.className = "note error";
  item.querySelector(".result-body").hidden = true;
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

// Positions are those of the displayed image, as the server sees it. What is drawn becomes a compressed image: a
// folder may have thousands.
async function drawn(image, result) {
  const scale = Math.min(1, LARGEST_VIEW / Math.max(result.width, result.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(result.width * scale));
  canvas.height = Math.max(1, Math.round(result.height * scale));
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const thick = Math.max(2, canvas.width / 300);
  result.plates.forEach((plate, i) => {
    for (const [colour, width] of [["#fff", thick + 2], [plate.plate ? "#0b6fc2" : "#9a6700", thick]]) {
      pen.beginPath();
      plate.corners.forEach(([x, y], k) => (k ? pen.lineTo(x * scale, y * scale) : pen.moveTo(x * scale, y * scale)));
      pen.closePath();
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.stroke();
    }
    if (result.plates.length > 1) {
      const [x, y] = plate.corners[0];
      pen.font = `bold ${Math.round(8 * thick)}px system-ui, sans-serif`;
      pen.lineWidth = thick;
      pen.strokeStyle = "#fff";
      pen.strokeText(i + 1, x * scale, y * scale - thick);
      pen.fillStyle = "#16181d";
      pen.fillText(i + 1, x * scale, y * scale - thick);
    }
  });
  const texts = result.plates.map((plate) => plate.plate || "an unread plate");
  const view = new Image(canvas.width, canvas.height);
  view.alt = texts.length ? `Image with ${texts.join(", ")} outlined` : "Image without a plate";
  view.src = URL.createObjectURL(await encoded(canvas, 0.9));
  return view;
}

const WITHOUT_TEXT = {
  incomplete: "A plate, part of which is hidden or outside of the image",
  not_swiss: "A plate that is not Swiss",
  unreadable: "A plate, but no Swiss text is confident enough",
};
const FORMATS = {
  front: "front plate",
  rear_long: "rear plate, long",
  rear_high: "rear plate, high",
  motorcycle: "motorcycle plate",
  moped: "moped plate",
};

function described(image, result, plate, number) {
  const item = byId("plate-template").content.firstElementChild.cloneNode(true);
  const text = item.querySelector(".text");
  const prefix = result.plates.length > 1 ? `${number + 1}. ` : "";
  if (plate.plate) {
    text.innerHTML = SHIELD;
    for (const [name, value] of [["letters", plate.canton], ["dot", "·"], ["digits", plate.number]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = value;
      text.append(part);
    }
    text.setAttribute("aria-label", `${plate.canton} ${[...plate.number].join(" ")}`);
    text.setAttribute("role", "img");
    const colour = plate.colour === "other" ? "of several colours" : plate.colour;
    const about = [CANTONS[plate.canton], FORMATS[plate.format], colour].filter(Boolean);
    item.querySelector(".canton").textContent = `${prefix}${about.join(", ")}`;
  } else {
    text.textContent = `${prefix}${WITHOUT_TEXT[plate.reason] || WITHOUT_TEXT.unreadable}`;
    text.classList.add("none");
    item.querySelector(".canton").remove();
  }
  const certainty = item.querySelector(".certainty");
  if (plate.plate) {
    const [, words, kind] = CERTAINTY.find(([least]) => plate.confidence >= least);
    certainty.classList.add(kind);
    certainty.querySelector(".words").textContent = `${words} (${percent(plate.confidence)})`;
    certainty.querySelector(".fill").style.width = `${100 * plate.confidence}%`;
  } else {
    certainty.remove();
  }
  const cut = image && rectified(image, result, plate);
  if (cut) item.querySelector(".cut").append(cut);
  return item;
}

// 99.97 % is not 100 %.
function percent(value) {
  return value > 0.999 ? "over 99.9 %" : `${(100 * value).toFixed(1)} %`;
}

// The plate seen from the front: each of its pixels is looked up in the image.
function rectified(image, result, plate) {
  const [a, b, c, d] = plate.corners;
  const long = (Math.hypot(b[0] - a[0], b[1] - a[1]) + Math.hypot(c[0] - d[0], c[1] - d[1])) / 2;
  const high = (Math.hypot(d[0] - a[0], d[1] - a[1]) + Math.hypot(c[0] - b[0], c[1] - b[1])) / 2;
  const height = plate.lines === 2 ? 2 * CUT_HEIGHT : CUT_HEIGHT;
  const width = Math.round((height * long) / high);
  if (!(width >= 1 && width <= 1000)) return null;
  const low = [Math.min(a[0], b[0], c[0], d[0]), Math.min(a[1], b[1], c[1], d[1])].map(Math.floor);
  const top = [Math.max(a[0], b[0], c[0], d[0]), Math.max(a[1], b[1], c[1], d[1])].map(Math.ceil);
  // The bitmap may be of another size than what the server decoded, if never of another shape.
  const stretch = image.width / result.width;
  const [w, h] = [Math.max(1, top[0] - low[0]), Math.max(1, top[1] - low[1])];
  const zoom = Math.min(1, 1600 / Math.max(w, h));
  const [sw, sh] = [Math.max(1, Math.round(w * zoom)), Math.max(1, Math.round(h * zoom))];
  const source = document.createElement("canvas");
  source.width = sw;
  source.height = sh;
  const reading = source.getContext("2d", { willReadFrequently: true });
  reading.drawImage(image, low[0] * stretch, low[1] * stretch, w * stretch, h * stretch, 0, 0, sw, sh);
  const from = reading.getImageData(0, 0, sw, sh).data;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  const to = pen.createImageData(width, height);
  const at = homography([a, b, c, d].map(([x, y]) => [(x - low[0]) * zoom, (y - low[1]) * zoom]));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [u, v] = at((x + 0.5) / width, (y + 0.5) / height);
      const column = Math.min(sw - 1, Math.max(0, Math.floor(u)));
      const row = Math.min(sh - 1, Math.max(0, Math.floor(v)));
      const k = 4 * (row * sw + column), l = 4 * (y * width + x);
      to.data[l] = from[k]; to.data[l + 1] = from[k + 1]; to.data[l + 2] = from[k + 2]; to.data[l + 3] = 255;
    }
  }
  pen.putImageData(to, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The plate, seen from the front");
  return canvas;
}

// The unit square to a quadrilateral (Heckbert: Fundamentals of texture mapping and image warping, 1989).
function homography([p0, p1, p2, p3]) {
  const sx = p0[0] - p1[0] + p2[0] - p3[0], sy = p0[1] - p1[1] + p2[1] - p3[1];
  const dx1 = p1[0] - p2[0], dx2 = p3[0] - p2[0], dy1 = p1[1] - p2[1], dy2 = p3[1] - p2[1];
  const det = dx1 * dy2 - dx2 * dy1;
  const g = (sx * dy2 - dx2 * sy) / det, h = (dx1 * sy - sx * dy1) / det;
  const a = p1[0] - p0[0] + g * p1[0], b = p3[0] - p0[0] + h * p3[0];
  const d = p1[1] - p0[1] + g * p1[1], e = p3[1] - p0[1] + h * p3[1];
  return (u, v) => {
    const w = g * u + h * v + 1;
    return [(a * u + b * v + p0[0]) / w, (d * u + e * v + p0[1]) / w];
  };
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

for (const id of ["pick", "shoot"]) {
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
  results.querySelectorAll(".view img").forEach((view) => URL.revokeObjectURL(view.src));
  results.replaceChildren();
  byId("left-out").textContent = "";
  asked = done = 0;
  byId("results-part").hidden = true;
  say();
  byId("pick").focus();
});

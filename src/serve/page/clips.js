// Clips: sends one to v1/events, and shows its events on a time line with their best frames, as they come.

import { bitmap, byId, fail, inWords, limits, withKey } from "./common.js";
import { described, drawn } from "./plates.js";

const TWO_LINES = ["rear_high", "motorcycle", "moped"];
const DIRECTIONS = { approaching: "approaching", receding: "driving away", left: "to the left", right: "to the right" };
// Seconds between the marks of a time line.
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const MARK_WIDTH = 70;
const CHIP_WIDTH = 132;

export function isClip(file) {
  const name = (file.name || "").toLowerCase();
  return file.type.startsWith("video/") || (!file.type.startsWith("image/") && limits.clipSuffixes.split(",").some((suffix) => name.endsWith(suffix)));
}

// Reads a clip; resolves when that has ended, in whichever way.
export async function readClip(file, item, signal) {
  if (signal.aborted) return fail(item, "Stopped.");
  if (limits.clipBytes === "0") return fail(item, "This server reads no clips.");
  if (file.size > limits.clipBytes) {
    return fail(item, `The clip is larger than ${(limits.clipBytes / 2 ** 20).toFixed(1)} MiB, which this server accepts.`);
  }
  const view = new ClipView(item);
  const started = performance.now();
  const last = await sent(file, view, signal);
  if (last.type === "result") {
    await view.end(last, performance.now() - started);
  } else {
    fail(item, last.text);
    // What was seen before it failed is still true.
    if (view.events.size) item.querySelector(".result-body").hidden = false;
  }
}

// Sends a file and hands on each line of the answer. XMLHttpRequest, as fetch does not tell how much was sent.
function sent(file, view, signal) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    let read = 0, last = null;
    const take = () => {
      if (request.status !== 200) return;
      for (;;) {
        const end = request.responseText.indexOf("\n", read);
        if (end < 0) return;
        last = JSON.parse(request.responseText.slice(read, end));
        read = end + 1;
        view.take(last);
      }
    };
    request.open("POST", "v1/events?images=true");
    for (const [name, value] of Object.entries(withKey(file.type.startsWith("video/") ? file.type : "application/octet-stream"))) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => view.sending(event.loaded, event.total));
    request.addEventListener("progress", take);
    request.addEventListener("load", () => {
      take();
      if (last?.type === "result") resolve(last);
      else if (last?.type === "error") resolve({ text: inWords(last.error, 200) });
      else resolve({ text: refused(request) });
    });
    request.addEventListener("error", () => {
      const text = last ? "The server has ended the connection before the clip was read."
        : "The server cannot be reached. Check that it is running and try again.";
      resolve({ text });
    });
    request.addEventListener("abort", () => resolve({ text: "Stopped." }));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function refused(request) {
  try {
    return inWords(JSON.parse(request.responseText).error, request.status);
  } catch {
    return "The server has ended the connection before the clip was read.";
  }
}

class ClipView {
  constructor(item) {
    this.item = item;
    this.note = item.querySelector(".note");
    this.bar = item.querySelector("progress");
    this.line = item.querySelector(".timeline");
    this.cards = item.querySelector(".events");
    this.events = new Map();
    this.drawing = Promise.resolve();
    this.seconds = this.reached = 0;
    this.bar.hidden = false;
    this.resized = new ResizeObserver(() => this.layOut());
    this.resized.observe(this.line);
  }

  sending(loaded, total) {
    this.note.textContent = `sending: ${megabytes(loaded)} of ${megabytes(total)}`;
    this.show(loaded, total);
  }

  take(line) {
    if (line.type === "waiting") {
      this.note.textContent = "waiting for other clips …";
      this.bar.removeAttribute("value");
    } else if (line.type === "progress") {
      this.seconds = line.seconds || Math.max(this.seconds, line.second);
      this.reached = line.second;
      const seen = this.events.size ? ` · ${vehicles(this.events.size)} so far` : "";
      this.note.textContent = `reading: ${Math.floor(line.second)} of ${Math.ceil(this.seconds)} s${seen}`;
      this.show(line.second, line.seconds);
    } else if (line.type === "event") {
      this.add(line.event);
    }
  }

  // How much of something is done; of something unknown, that something is.
  show(part, whole) {
    if (whole) {
      this.bar.max = whole;
      this.bar.value = Math.min(part, whole);
    } else {
      this.bar.removeAttribute("value");
    }
  }

  // An event, or a further revision of one.
  add(event) {
    const known = this.events.get(event.id);
    const card = byId("event-template").content.firstElementChild.cloneNode(true);
    card.id = `event-${event.id}`;
    if (known) known.card.replaceWith(card);
    else this.cards.append(card);
    this.events.set(event.id, { event, card });
    this.item.querySelector(".result-body").hidden = false;
    // One after the other, as each holds a whole frame in memory.
    this.drawing = this.drawing.then(() => filled(card, event)).catch((error) => console.error(error));
    this.layOut();
  }

  layOut() {
    const width = this.line.clientWidth;
    const found = [...this.events.values()].map((each) => each.event).sort((a, b) => a.first - b.first);
    const length = Math.max(this.seconds, ...found.map((event) => event.last), 0.1);
    if (!width || !found.length) return;
    const chip = Math.min(CHIP_WIDTH, width);
    const rows = [];
    const ends = [];
    for (const event of found) {
      const left = Math.min((event.first / length) * width, width - chip);
      const right = Math.max(left + chip, (event.last / length) * width);
      let row = ends.findIndex((end) => end + 6 <= left);
      if (row < 0) {
        row = ends.length;
        rows.push(element("div", "lane"));
      }
      ends[row] = right;
      rows[row].append(...placed(event, left, width, length));
    }
    this.line.replaceChildren(...rows, marks(width, length));
  }

  async end(result, elapsed) {
    this.seconds = Math.max(this.seconds, result.seconds);
    await this.drawing;
    this.layOut();
    const seen = result.events.length ? vehicles(result.events.length) : "No plate was seen";
    this.note.textContent = `${seen} in ${result.seconds.toFixed(1)} s of video · read in ${(elapsed / 1000).toFixed(1)} s`;
    for (const text of result.warnings) {
      const remark = element("p", "remark");
      remark.textContent = `The file ${text}.`;
      this.item.querySelector(".result-body").before(remark);
    }
  }
}

// The time for which a vehicle was seen, and its text, which leads to its best frame.
function placed(event, left, width, length) {
  const extent = element("span", "extent");
  extent.style.left = `${(event.first / length) * width}px`;
  extent.style.width = `${Math.max(((event.last - event.first) / length) * width, 3)}px`;
  const best = element("span", "best");
  best.style.left = `${(event.best.time / length) * width}px`;
  const chip = element("a", "chip");
  chip.href = `#event-${event.id}`;
  chip.textContent = event.plate ? `${event.canton} ${event.number}` : "unread";
  chip.setAttribute("aria-label", `${event.plate ? chip.textContent : "A plate without a text"}, ${times(event)}`);
  chip.style.left = `${left}px`;
  return [extent, best, chip];
}

function marks(width, length) {
  const step = STEPS.find((each) => (each / length) * width >= MARK_WIDTH) || STEPS.at(-1);
  const scale = element("div", "scale");
  scale.setAttribute("aria-hidden", "true");
  for (let second = 0; second <= length; second += step) {
    const mark = element("span", "mark");
    const x = (second / length) * width;
    mark.style.left = `${x}px`;
    mark.textContent = clock(second);
    if (x > width - 30) mark.classList.add("late");
    scale.append(mark);
  }
  return scale;
}

async function filled(card, event) {
  const bytes = Uint8Array.from(atob(event.best.image), (letter) => letter.charCodeAt(0));
  const image = await bitmap(new Blob([bytes], { type: "image/jpeg" }));
  const plate = { ...event, corners: event.best.corners, lines: TWO_LINES.includes(event.format) ? 2 : 1 };
  const result = { plates: [plate], width: image?.width, height: image?.height };
  if (image) card.querySelector(".view").append(await drawn(image, result));
  card.querySelector(".plates").append(described(image, result, plate, 0));
  card.querySelector(".times").textContent = `${capital(times(event))}; best at ${event.best.time.toFixed(1)} s`;
  const about = [DIRECTIONS[event.direction], `read in ${event.reads} of ${event.frames} frames`];
  card.querySelector(".way").textContent = capital(about.filter(Boolean).join(", "));
  image?.close();
}

function times(event) {
  return `seen from ${event.first.toFixed(1)} to ${event.last.toFixed(1)} s`;
}

function clock(second) {
  if (second < 60) return `${second} s`;
  return `${Math.floor(second / 60)}:${String(Math.floor(second % 60)).padStart(2, "0")}`;
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const vehicles = (count) => `${count} ${count === 1 ? "vehicle" : "vehicles"}`;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function element(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

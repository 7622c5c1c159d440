// How a plate is shown: its text as on the plate, its certainty, the image around it, and its view from the front.

import { byId, encoded } from "./common.js";

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
const LARGEST_VIEW = 1280;
const CUT_HEIGHT = 72;
const SHIELD =
  '<svg viewBox="0 0 20 24" aria-hidden="true"><path d="M0 0h20v11c0 6-5 10-10 13C5 21 0 17 0 11z" ' +
  'fill="#d1222b"/><path d="M8 4h4v4h4v4h-4v4H8v-4H4V8h4z" fill="#fff"/></svg>';

// Positions are those of the displayed image, as the server sees it. What is drawn becomes a compressed image: a
// folder may have thousands.
export async function drawn(image, result) {
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

export function described(image, result, plate, number) {
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

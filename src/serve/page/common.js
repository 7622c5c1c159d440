// What reading images and reading clips share: the limits, the server's refusals in words, images of the browser.

export const byId = (id) => document.getElementById(id);
export const limits = byId("limits").dataset;

export function withKey(kind) {
  const headers = kind ? { "Content-Type": kind } : {};
  if (byId("key").value) headers["X-API-Key"] = byId("key").value;
  return headers;
}

export function inWords(error, code) {
  const words = {
    unsupported_format: `The file ${error.message.replace(/^the (image|clip): /, "")}.`,
    damaged_image: `The file ${error.message.replace("the image: ", "")}.`,
    image_too_large: `The image is too large: ${error.message}.`,
    body_too_large: "The file is too large for this server.",
    unauthorized: "This server requires an API key; enter it above.",
    rate_limited: "You have sent too many images. Wait a moment and try again.",
    no_file: "The file is empty.",
    damaged_clip: "The file has no frame that can be decoded.",
    clip_too_long: `The clip is longer than ${limits.clipSeconds} seconds, which this server reads at most.`,
    frames_too_large: `The clip is too large: ${error.message.replace("the clip: ", "it ")}.`,
    clips_off: "This server reads no clips.",
    no_space: "The server has no room for the clip. Try again later.",
  };
  if (words[error.code]) return words[error.code];
  return code === 503 ? "The server is busy. Try again in a moment." : `The server refused the request: ${error.message}.`;
}

export function fail(item, text) {
  const note = item.querySelector(".note");
  note.textContent = text;
  note.className = "note error";
  item.querySelector(".result-body").hidden = true;
}

// The image as this browser shows it, or nothing: few show HEIC.
export async function bitmap(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

export function encoded(canvas, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no memory for the image"))), "image/jpeg", quality);
  });
}

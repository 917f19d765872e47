// Pictures that are being drawn from: each is decoded once, not once a crop.

const MOST = 4;
const loaded = new Map(); // source: promise of an image

export function load(source) {
  if (!loaded.has(source)) {
    const image = new Image();
    image.src = source;
    const promise = image.decode().then(() => image);
    promise.catch(() => loaded.delete(source));
    loaded.set(source, promise);
    for (const old of [...loaded.keys()].slice(0, -MOST)) loaded.delete(old);
  }
  return loaded.get(source);
}

// A square of a picture on a canvas of `side` pixels. Left empty where a browser cannot show the file.
function square(canvas, source, place) {
  load(source).then((image) => {
    const { x, y, span } = place(image);
    canvas.getContext("2d").drawImage(image, x, y, span, span, 0, 0, canvas.width, canvas.height);
  }).catch(() => {});
  return canvas;
}

function blank(side, name) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  canvas.className = name;
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
}

const crops = new WeakMap(); // object of an answer: { source, canvas }

// The photograph around the box of a finding.
export function crop(item, object) {
  const source = item.shown ?? item.url;
  const made = crops.get(object);
  if (made?.source === source) return made.canvas;
  const [height, width] = item.result.size_hw;
  const [x1, y1, x2, y2] = object.box_xyxy;
  const canvas = square(blank(112, "crop"), source, (image) => {
    const scale = image.naturalWidth / width;
    const span = Math.min(Math.max(x2 - x1, y2 - y1, 24) * 1.3, Math.min(width, height));
    const start = (low, high, most) => Math.min(Math.max((low + high - span) / 2, 0), Math.max(most - span, 0));
    return { x: start(x1, x2, width) * scale, y: start(y1, y2, height) * scale, span: span * scale };
  });
  crops.set(object, { source, canvas });
  return canvas;
}

const thumbnails = new WeakMap(); // photograph: { source, canvas }

// A small square for the list. Forty photographs of 12 megapixels shall not be decoded at each redraw.
export function thumbnail(item) {
  const source = item.shown ?? item.url;
  const made = thumbnails.get(item);
  if (made && (made.source === source || !made.failed)) return made.canvas;
  const canvas = blank(104, "thumbnail");
  const entry = { source, canvas, failed: false };
  thumbnails.set(item, entry);
  small(item, source).then((image) => {
    const span = Math.min(image.width, image.height);
    canvas.getContext("2d").drawImage(image, (image.width - span) / 2, (image.height - span) / 2, span, span, 0, 0, 104, 104);
    image.close();
  }).catch(() => (entry.failed = true)); // the server's upright copy may do better
  return canvas;
}

let turn = Promise.resolve(); // one at a time: each takes the memory of a whole photograph for a moment

function small(item, source) {
  const made = turn.then(async () => {
    const image = await createImageBitmap(source === item.url ? item.file : await load(source));
    const scale = Math.min(1, 208 / Math.min(image.width, image.height));
    if (scale === 1) return image;
    const little = await createImageBitmap(image, {
      resizeWidth: Math.max(1, Math.round(image.width * scale)),
      resizeHeight: Math.max(1, Math.round(image.height * scale)),
      resizeQuality: "medium",
    });
    image.close();
    return little;
  });
  turn = made.catch(() => {});
  return made;
}

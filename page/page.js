// The page: drawing, pictures, keys, and what is shown of the network's answer.
"use strict";

const element = id => document.getElementById(id);
const drawing = element("drawing"), pen = drawing.getContext("2d", {willReadFrequently: true});
const networks = unpack(NETWORKS);
let shift = [0, 0];   // of the 28 x 28 image, in pixels right and down
let ready = false;    // a ready-made digit makes way for the first stroke

// A digit as lines through these places, in hundredths of the square.
const STROKES = {
  0: [[[50, 18], [33, 28], [30, 52], [36, 76], [52, 83], [66, 72], [70, 48], [64, 25], [50, 18]]],
  1: [[[40, 30], [53, 18], [53, 83]]],
  2: [[[32, 33], [40, 20], [58, 20], [65, 33], [58, 48], [34, 80], [70, 80]]],
  3: [[[33, 24], [52, 18], [65, 30], [48, 48], [66, 62], [58, 80], [33, 80]]],
  4: [[[45, 18], [30, 56], [70, 56]], [[62, 30], [58, 84]]],
  5: [[[66, 20], [38, 20], [34, 46], [56, 44], [67, 60], [58, 80], [34, 80]]],
  6: [[[58, 18], [38, 44], [32, 66], [42, 82], [60, 80], [66, 64], [54, 54], [35, 62]]],
  7: [[[30, 22], [70, 22], [48, 84]]],
  8: [[[50, 48], [36, 36], [42, 20], [58, 20], [64, 34], [50, 48], [34, 64], [40, 82], [60, 82], [67, 64], [50, 48]]],
  9: [[[66, 34], [56, 20], [38, 24], [36, 42], [52, 50], [66, 36], [64, 60], [54, 84]]],
};

// ---------------------------------------------------------------- drawing

function clear() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, drawing.width, drawing.height);
  shift = [0, 0];
  ready = false;
}

function line(places) {
  pen.lineWidth = 22;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#000";
  pen.beginPath();
  places.forEach(([x, y], number) => number ? pen.lineTo(x, y) : pen.moveTo(x, y));
  if (places.length === 1) pen.lineTo(places[0][0], places[0][1]);
  pen.stroke();
}

function drawDigit(digit) {
  clear();
  ready = true;
  STROKES[digit].forEach(stroke => line(stroke.map(place => place.map(value => 2.8 * value))));
}

function ink() {   // rows of numbers from 0 for paper to 1
  const {data, width, height} = pen.getImageData(0, 0, drawing.width, drawing.height);
  return Array.from({length: height}, (_, y) =>
    Float64Array.from({length: width}, (_, x) => 1 - data[4 * (y * width + x)] / 255));
}

let last = null;
const place = event => {
  const box = drawing.getBoundingClientRect();
  return [(event.clientX - box.left) * drawing.width / box.width,
          (event.clientY - box.top) * drawing.height / box.height];
};
drawing.addEventListener("pointerdown", event => {
  if (!event.isPrimary || event.button) return;   // a second finger, the right button
  if (ready) clear();
  shift = [0, 0];
  last = place(event);
  line([last]);
  soon();
  drawing.setPointerCapture(event.pointerId);   // the stroke may leave the square
});
drawing.addEventListener("pointermove", event => {
  if (!last || !event.isPrimary) return;
  const here = place(event);
  line([last, here]);
  last = here;
  soon();
});
for (const end of ["pointerup", "pointercancel"]) drawing.addEventListener(end, () => { last = null; read(); });

// ---------------------------------------------------------------- pictures

async function load(file) {
  if (!file) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    clear();
    read();
    element("answer").textContent = `${file.name} is no picture that can be read.`;
    return;
  }
  clear();
  const scale = Math.min(drawing.width / bitmap.width, drawing.height / bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  pen.drawImage(bitmap, (drawing.width - width) / 2, (drawing.height - height) / 2, width, height);
  const pixels = pen.getImageData(0, 0, drawing.width, drawing.height), {data} = pixels;
  const grey = Array.from({length: data.length / 4}, (_, i) =>
    (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]) / 255);
  const paper = grey.slice().sort((a, b) => a - b)[grey.length >> 1];   // most of a picture is paper
  const marks = grey.map(value => Math.abs(value - paper));
  const most = marks.reduce((a, b) => Math.max(a, b));
  marks.forEach((value, i) => {
    const shade = most > 0.1 ? 255 * (1 - value / most) : 255;
    data.set([shade, shade, shade, 255], 4 * i);
  });
  pen.putImageData(pixels, 0, 0);
  read();
}
element("picture").addEventListener("change", async event => {
  await load(event.target.files[0]);
  event.target.value = "";   // so that the same file can be chosen again
});
document.addEventListener("dragover", event => event.preventDefault());
document.addEventListener("drop", event => { event.preventDefault(); load(event.dataTransfer.files[0]); });

// ---------------------------------------------------------------- keys and buttons

const FURTHEST = 12;   // pixels: beyond it nothing of a digit is left

function move(right, down) {
  shift = [shift[0] + right, shift[1] + down].map(value => Math.max(-FURTHEST, Math.min(FURTHEST, value)));
  read();
}

function show(digit) {
  drawDigit(digit);
  read();
}
const ARROWS = {ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2]};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in STROKES) {
    event.preventDefault();
    show(event.key);
    drawing.focus({preventScroll: true});   // for the arrow keys
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clear();
    read();
  } else if (event.key in ARROWS && event.target === drawing) {
    event.preventDefault();
    move(...ARROWS[event.key]);
  }
});
for (const digit of Object.keys(STROKES)) {
  const button = document.createElement("button");
  button.textContent = digit;
  button.addEventListener("click", () => show(digit));
  element("digits").append(button);
}
element("clear").addEventListener("click", () => { clear(); read(); });
document.querySelectorAll("[data-move]").forEach(button =>
  button.addEventListener("click", () => move(...button.dataset.move.split(",").map(Number))));

for (const name of Object.keys(networks)) element("network").add(new Option(name, name));
element("network").addEventListener("change", () => read());

// ---------------------------------------------------------------- the answer

const percent = value => value > 0.9995 ? "> 99.9 %" : `${(100 * value).toFixed(1)} %`;

function paint(canvas, side, values, start, most) {
  canvas.width = canvas.height = side;
  const picture = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    const shade = 255 * (1 - Math.min(1, Math.max(0, values[start + i] / most)));
    picture.data.set([shade, shade, shade, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function showBars(probabilities) {
  const rows = Array.from({length: 10}, (_, digit) => {
    const row = document.createElement("tr"), value = probabilities ? probabilities[digit] : 0;
    row.innerHTML = `<th scope="row">${digit}</th><td><div class="bar"></div></td><td>${percent(value)}</td>`;
    row.querySelector(".bar").style.width = `${100 * value}%`;
    return row;
  });
  element("bars").tBodies[0].replaceChildren(...rows);
}

function showMaps(maps, best) {
  const shown = maps.filter((map, number) => map.side > 1 && !(maps[number + 1] && map.kind === "convolution"
    && ["relu", "silu"].includes(maps[number + 1].kind)));
  element("maps").replaceChildren(...shown.map((map, number) => {
    const row = document.createElement("div");
    const ends = number === shown.length - 1 && maps[maps.length - 1].side === 1;
    const most = Math.max(1e-6, map.values.reduce((a, b) => Math.max(a, b)));
    row.className = "maps";
    row.setAttribute("role", "img");
    row.setAttribute("aria-label", `${map.channels} maps of ${map.side} x ${map.side} after layer ${number + 1}`
      + (ends ? `; that of ${best} has the largest mean` : ""));
    for (let channel = 0; channel < map.channels; channel++) {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      paint(canvas, map.side, map.values, channel * map.side * map.side, most);
      figure.append(canvas);
      if (ends && channel < 10) figure.append(document.createElement("br"), String(channel));
      row.append(figure);
    }
    return row;
  }));
}

let due = false;
function soon() {   // a stroke has more places than a screen has pictures
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; read(); });
}

function movedText() {
  const [right, down] = shift, parts = [];
  if (right) parts.push(`${Math.abs(right)} ${right < 0 ? "left" : "right"}`);
  if (down) parts.push(`${Math.abs(down)} ${down < 0 ? "up" : "down"}`);
  return parts.length ? `, moved by pixels: ${parts.join(" and ")}` : "";
}

function read() {
  const network = networks[element("network").value];
  element("about").textContent = network.about;
  const form = mnistForm(ink());
  if (!form) {
    element("answer").textContent = "Draw something.";
    showBars(null);
    element("maps").replaceChildren();
    paint(element("seen"), SIDE, new Float64Array(SIDE * SIDE), 0, 1);
    return;
  }
  const image = shifted(form, ...shift), {probabilities, maps} = forward(network, image);
  const best = probabilities.indexOf(probabilities.reduce((a, b) => Math.max(a, b)));
  const moved = movedText();
  element("answer").textContent = best < 10
    ? `It reads ${best}, with a probability of ${percent(probabilities[best]).replace(">", "more than")}${moved}.`
    : `Its answer is none of the ten digits${moved}: this network has no head.`;
  showBars(probabilities);
  paint(element("seen"), SIDE, image, 0, 1);
  showMaps(maps, best);
}

const wanted = new URLSearchParams(location.search).get("digit");
show(wanted in STROKES ? wanted : "7");

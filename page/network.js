// The arithmetic of the page: a drawing in MNIST's form, and a network's forward pass, as PyTorch computes them.
"use strict";

const SIDE = 28, DIGIT = 20, MEAN = 0.1307, STD = 0.3081;

function numbers(base64) {   // little-endian float32
  const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// ---------------------------------------------------------------- MNIST's form (digits/classify.py: as_mnist)

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

function resizeLine(input, size) {   // bilinear with antialiasing, along one line
  const scale = input.length / size, reach = Math.max(1, scale), output = new Float64Array(size);
  for (let place = 0; place < size; place++) {
    const centre = scale * (place + 0.5);
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(input.length, Math.floor(centre + reach + 0.5));
    let total = 0, sum = 0;
    for (let j = first; j < end; j++) {
      const weight = Math.max(0, 1 - Math.abs((j - centre + 0.5) / reach));
      total += weight;
      sum += weight * input[j];
    }
    output[place] = sum / total;
  }
  return output;
}

function resize(rows, height, width) {   // rows: an array of lines
  const wide = rows.map(line => resizeLine(line, width));
  const columns = Array.from({length: width}, (_, x) => resizeLine(wide.map(line => line[x]), height));
  return Array.from({length: height}, (_, y) => Float64Array.from(columns, column => column[y]));
}

// ink: rows of numbers from 0 for paper to 1. Returns 28 x 28 numbers from 0 to 1 in one array, or null.
function mnistForm(ink) {
  let top = ink.length, bottom = 0, left = ink[0].length, right = 0;
  ink.forEach((line, y) => line.forEach((value, x) => {
    if (value <= 0.3) return;
    [top, bottom] = [Math.min(top, y), y + 1];
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
  }));
  if (!bottom) return null;
  const crop = ink.slice(top, bottom).map(line =>
    Float64Array.from(line.slice(left, right), value => value > 0.1 ? value : 0));
  const longer = Math.max(bottom - top, right - left);
  const [height, width] = [bottom - top, right - left].map(side =>
    Math.max(1, roundHalfToEven(side * DIGIT / longer)));
  const digit = resize(crop, height, width);
  const most = Math.max(...digit.map(line => Math.max(...line)));
  let total = 0, down = 0, across = 0;
  digit.forEach((line, y) => line.forEach((value, x) => {
    total += value; down += value * y; across += value * x;
  }));
  const place = (centre, side) => Math.min(Math.max(roundHalfToEven(13.5 - centre), 0), SIDE - side);
  const [row, column] = [place(down / total, height), place(across / total, width)];
  const image = new Float64Array(SIDE * SIDE);
  digit.forEach((line, y) => line.forEach((value, x) => {
    image[(row + y) * SIDE + column + x] = value / most;
  }));
  return image;
}

function shifted(image, right, down) {   // what leaves the image is lost
  const moved = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) {
      const [fromY, fromX] = [y - down, x - right];
      if (fromY >= 0 && fromY < SIDE && fromX >= 0 && fromX < SIDE)
        moved[y * SIDE + x] = image[fromY * SIDE + fromX];
    }
  return moved;
}

// ---------------------------------------------------------------- the forward pass

function convolution(map, layer) {
  const {inputs, outputs, kernel, stride, padding, groups} = layer, input = map.values;
  const side = Math.floor((map.side + 2 * padding - kernel) / stride) + 1;
  const values = new Float32Array(outputs * side * side);
  const perGroup = inputs / groups, outputsPerGroup = outputs / groups;
  const places = [...Array(kernel).keys()];   // of the kernel; where each meets the map, not the padding:
  const first = places.map(k => Math.max(0, Math.ceil((padding - k) / stride)));
  const end = places.map(k => Math.min(side, Math.floor((map.side - 1 + padding - k) / stride) + 1));
  for (let out = 0; out < outputs; out++) {
    const firstInput = Math.floor(out / outputsPerGroup) * perGroup;
    const target = values.subarray(out * side * side, (out + 1) * side * side).fill(layer.bias[out]);
    for (let channel = 0; channel < perGroup; channel++) {
      const source = (firstInput + channel) * map.side * map.side;
      for (let ky = 0; ky < kernel; ky++)
        for (let kx = 0; kx < kernel; kx++) {
          const weight = layer.weights[((out * perGroup + channel) * kernel + ky) * kernel + kx];
          for (let y = first[ky]; y < end[ky]; y++) {
            const from = source + (y * stride + ky - padding) * map.side + kx - padding;
            for (let x = first[kx]; x < end[kx]; x++) target[y * side + x] += weight * input[from + x * stride];
          }
        }
    }
  }
  return {channels: outputs, side, values};
}

function pooled(map, size, join) {
  const side = Math.floor(map.side / size), values = new Float32Array(map.channels * side * side);
  for (let channel = 0; channel < map.channels; channel++)
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) {
        const window = [];
        for (let dy = 0; dy < size; dy++)
          for (let dx = 0; dx < size; dx++)
            window.push(map.values[(channel * map.side + y * size + dy) * map.side + x * size + dx]);
        values[(channel * side + y) * side + x] = join(window);
      }
  return {channels: map.channels, side, values};
}

const LAYERS = {
  convolution,
  relu: map => ({...map, values: map.values.map(value => Math.max(0, value))}),
  silu: map => ({...map, values: map.values.map(value => value / (1 + Math.exp(-value)))}),
  max: (map, layer) => pooled(map, layer.size, window => Math.max(...window)),
  average: (map, layer) => pooled(map, layer.size, window => window.reduce((a, b) => a + b) / window.length),
};

// Returns {probabilities, maps}: a softmax over all outputs, and the map after each layer.
function forward(network, image) {
  let map = {channels: 1, side: SIDE, values: Float32Array.from(image, value => (value - MEAN) / STD)};
  const maps = [];
  for (const layer of network.layers) {
    map = LAYERS[layer.kind](map, layer);
    maps.push({kind: layer.kind, ...map});
  }
  const most = map.values.reduce((a, b) => Math.max(a, b));
  const exps = Array.from(map.values, value => Math.exp(value - most));
  const total = exps.reduce((a, b) => a + b);
  return {probabilities: exps.map(value => value / total), maps};
}

function unpack(networks) {
  for (const network of Object.values(networks))
    for (const layer of network.layers)
      if (layer.kind === "convolution")
        [layer.weights, layer.bias] = [numbers(layer.weights), numbers(layer.bias)];
  return networks;
}

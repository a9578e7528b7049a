/** From a history to a user's vectors: towers in ONNX Runtime, the rest here, as `alignment/user_encoder.py` has it. */

const TREND = "popularity";
const NEIGHBOURS = "content_knn";

/**
 * The dense vector of who took items at `rows`, oldest first, at these seconds, and how much each item counts for each
 * of the sparse parts: lists of [row, weight] by ascending row.
 */
export async function encode(rows, seconds, facts, tensors, runtime) {
  const { parts, towers, content_knn: taste, item_item: neighbors } = facts.encoder;
  const users = await towersOf(rows, seconds, towers, tensors, runtime);
  const blocks = parts.map((part) => {
    if (part === TREND) return [1];
    return part === NEIGHBOURS && tensors.taste ? tasteOf(reading(rows, seconds, { powers: taste, fade: 0 }), tensors.taste) : users[part];
  });
  return { dense: Float32Array.from(blocks.flatMap((block) => [...block])), reads: neighbors.map((one) => reading(rows, seconds, one)) };
}

/** How much each item of a history counts: by powers the less the longer ago, and faded by the time since; or all alike. */
function reading(rows, seconds, { powers, fade }) {
  const recent = powers ? rows.slice(-powers.length) : rows;
  const times = seconds.slice(-recent.length);
  const weights = new Map();
  recent.forEach((row, place) => {
    const gap = Math.max(times[times.length - 1] - times[place], 0);
    const weight = powers ? powers[recent.length - 1 - place] * (1 + gap / 60) ** -fade : 0;
    weights.set(row, (weights.get(row) ?? 0) + weight);
  });
  const alike = 1 / Math.sqrt(Math.max(1, weights.size));
  return [...weights].sort(([a], [b]) => a - b).map(([row, weight]) => [row, Math.fround(powers ? weight : alike)]);
}

/** What the items of a history look like, of length 1 or 0. */
function tasteOf(read, { data, shape: [, width] }) {
  const sum = new Float64Array(width);
  for (const [row, weight] of read) {
    for (let d = 0; d < width; d++) sum[d] += weight * data[row * width + d];
  }
  const length = Math.sqrt(sum.reduce((total, value) => total + value * value, 0));
  return Float32Array.from(sum, (value) => (length > 0 ? value / length : 0));
}

async function towersOf(rows, seconds, towers, tensors, runtime) {
  const given = {};
  for (const [name, { history, buckets, dim }] of Object.entries(towers)) {
    const latest = rows.slice(-history);
    const vectors = new Float32Array(latest.length * dim);
    const { data } = tensors[`tower.${name}`];
    latest.forEach((row, place) => vectors.set(data.subarray(row * dim, (row + 1) * dim), place * dim));
    const gaps = gapsOf(seconds.slice(-history), buckets);
    given[`${name}.vectors`] = new runtime.Tensor("float32", vectors, [latest.length, dim]);
    given[`${name}.gaps`] = new runtime.Tensor("int32", gaps, [latest.length, latest.length]);
  }
  if (!Object.keys(given).length) return {};
  const made = await runtime.session.run(given);
  return Object.fromEntries(Object.keys(towers).map((name) => [name, made[`${name}.user`].data]));
}

/** Buckets of the time between places i and j, two an octave of seconds: the exponent of the squared float. */
function gapsOf(seconds, buckets) {
  const square = new Float32Array(1);
  const bits = new Int32Array(square.buffer);
  const gaps = new Int32Array(seconds.length ** 2);
  seconds.forEach((late, i) => {
    seconds.forEach((early, j) => {
      const gap = Math.fround(Math.max(Math.fround(late - early), 0) + 1);
      square[0] = gap * gap;
      gaps[i * seconds.length + j] = Math.min((bits[0] >> 23) - 127, buckets - 1);
    });
  });
  return gaps;
}

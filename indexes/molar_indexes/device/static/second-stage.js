/** What the second stage adds to the first candidates, as `ranking/features.py` and `reranker.py` have it. */

const RECENT = 10; // last items of a history that a candidate is likened to
const FIRST = 10; // places whose mean is moved by 0
const LIMIT = 5; // standard deviations at which features are cut

/** Known items change places among themselves, cold items keep theirs. */
export function moves(candidates, history, names, facts, tensors) {
  const known = candidates.filter(({ cold }) => !cold);
  if (!known.length) return candidates.map(() => 0);
  const moved = networks(features(known, history, names, facts, tensors), tensors);
  const middle = mean(moved.slice(0, FIRST));
  return kept(candidates, moved.map((one) => one - middle));
}

/** Features of each known candidate, best first, in their order: one array for each feature. */
function features(known, history, names, facts, tensors) {
  const columns = [];
  const add = (values) => columns.push(Float32Array.from(values));
  add(known.map((_, place) => Math.log1p(place)));
  for (let part = 0; part < names.length; part++) {
    if (!facts.second_stage.includes(names[part])) continue;
    const own = known.map((one) => one.parts[part]);
    const usual = mean(own);
    add(own.map((value) => value - usual));
    const places = new Float64Array(known.length);
    known.map((_, n) => n).sort((a, b) => own[b] - own[a]).forEach((n, place) => (places[n] = Math.log1p(place)));
    add(places);
  }
  const recent = history.slice(-RECENT);
  for (const space of spaces(facts, tensors)) {
    const others = recent.map(space);
    const likeness = known.map(({ row }) => {
      const own = space(row);
      return others.map((other) => dot(own, other));
    });
    add(likeness.map((to) => to.at(-1)));
    add(likeness.map((to) => Math.max(...to)));
    add(likeness.map(mean));
  }
  const { data, shape: [, width] } = tensors.numbers;
  for (let number = 0; number < width; number++) {
    const value = (row) => data[row * width + number];
    const values = known.map(({ row }) => value(row));
    add(values);
    for (const past of [history, recent]) {
      const usual = Math.fround(mean(past.map(value)));
      add(values.map((one) => Math.abs(one - usual)));
    }
  }
  add(known.map(() => Math.log1p(history.length)));
  return columns;
}

/** From a row to a vector of length 1 or 0, in each of the spaces in which items are likened. */
function spaces(facts, { content, cf, dense }) {
  const found = [reader(content, 0, content.shape[1], false), reader(cf, 0, cf.shape[1], true)];
  const own = facts.second_stage.includes("id_tower") ? facts.parts.id_tower : undefined;
  return own ? [...found, reader(dense, ...own, true)] : found;
}

function reader({ data, shape: [, width] }, start, stop, scaled) {
  return (row) => {
    const own = data.subarray(row * width + start, row * width + stop);
    const length = scaled ? Math.sqrt(dot(own, own)) : 0;
    return length > 0 ? own.map((value) => value / length) : own;
  };
}

/** The mean of some small networks, each one hidden layer beside a linear map, for every candidate. */
function networks(columns, tensors) {
  const [count, , units] = tensors["second.hidden"].shape;
  const { centre, deviation, hidden, bias, out, skip, scale } = {
    centre: tensors["second.mean"].data,
    deviation: tensors["second.deviation"].data,
    hidden: tensors["second.hidden"].data,
    bias: tensors["second.bias"].data,
    out: tensors["second.out"].data,
    skip: tensors["second.skip"].data,
    scale: tensors["second.scale"].data,
  };
  const wide = columns.length;
  const whole = scale.reduce((a, b) => a + b, 0);
  return [...columns[0]].map((_, n) => {
    const given = columns.map((own, f) => {
      return Math.fround(Math.min(LIMIT, Math.max(-LIMIT, Math.fround(own[n] - centre[f]) / deviation[f])));
    });
    let sum = 0;
    for (let e = 0; e < count; e++) {
      for (let f = 0; f < wide; f++) sum += given[f] * skip[e * wide + f];
      for (let h = 0; h < units; h++) {
        let inner = bias[e * units + h];
        for (let f = 0; f < wide; f++) inner += given[f] * hidden[(e * wide + f) * units + h];
        sum += Math.max(0, inner) * out[e * units + h];
      }
    }
    return sum / whole;
  });
}

/** What is added where cold items keep their places between the known ones; see `cold_start.kept`. */
function kept(candidates, moved) {
  const places = candidates.flatMap(({ cold }, place) => (cold ? [] : [place]));
  const before = places.map((place) => candidates[place].score);
  const after = before.map((score, n) => score + moved[n]).sort((a, b) => b - a);
  const added = new Array(candidates.length).fill(0);
  places.forEach((place, n) => (added[place] = moved[n]));
  candidates.forEach(({ cold, score }, place) => {
    if (!cold) return;
    const next = places.findIndex((other) => other > place);
    if (next === 0) added[place] = after[0] - before[0];
    else if (next < 0) added[place] = after.at(-1) - before.at(-1);
    else {
      const share = (place - places[next - 1]) / (places[next] - places[next - 1]);
      added[place] = after[next - 1] + (after[next] - after[next - 1]) * share - score;
    }
  });
  return added;
}

function dot(a, b) {
  let sum = 0;
  for (let n = 0; n < a.length; n++) sum += a[n] * b[n];
  return sum;
}

function mean(values) {
  return values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0;
}

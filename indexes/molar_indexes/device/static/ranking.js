/**
 * From a user's vectors to a list, as `ranking/candidates.py`, `cold_start.py` and `ranker.py` have it.
 *
 * Sums are in double precision, where the server's products are in single precision, so scores differ by some
 * millionths. Equal scores come by row in both.
 */
import { moves } from "./second-stage.js";
import { boosts, composed, pinned } from "./shaping.js";

const TOP = 10; // places of a list that known and cold items share
const CANDIDATES = 200; // that the second stage reads
const PER_PLACE = 20; // candidates for each place of a list that rules shape
const GROWTH = 4;

/**
 * The first `k` places for a user: {row, score, parts}; what is fresh is so `now`, in milliseconds since 1970. Who did
 * the last thing long before, in seconds since 1970, 0 where it is not known, comes back.
 */
export function ranked({ user, rows: history, last, hidden, k, rerank, now, facts, tensors }) {
  const names = [...Object.keys(facts.parts), ...Object.keys(facts.sparse_parts)];
  const back = facts.session_start && last > 0 && last <= now / 1000 - facts.visit;
  const parts = partsOf(user, back ? facts.session_start : facts.factors, facts, tensors);
  const second = rerank && !back && facts.second_stage; // it has learned from the other lists
  const mayCome = (row) => tensors.shown.data[row] && !hidden.has(row);
  const find = (size, allowed) => found(parts, allowed, size, Math.max(k, TOP), facts.slots, tensors);
  const first = (size) => (second ? reranked(find(size, mayCome), history, names, facts, tensors) : find(size, mayCome));
  const list = facts.rules.length
    ? shaped({ first, find, mayCome, parts, k, now, rules: facts.rules, tensors })
    : first(Math.max(k, second ? CANDIDATES : 0)).slice(0, k);
  return list.map(({ row, parts: own, cold, lift, moved, boost }) => {
    const told = Object.fromEntries(names.map((name, n) => [name, own[n]]));
    if (cold) told.cold_start = lift;
    if (moved) told.reranker = moved;
    if (boost) told.rules = boost;
    return { row, score: Object.values(told).reduce((a, b) => a + b, 0), parts: told };
  });
}

/** The list that rules shape, from more and more candidates until it is full. */
function shaped({ first, find, mayCome, parts, k, now, rules, tensors }) {
  for (let size = Math.max(CANDIDATES, PER_PLACE * k); ; size *= GROWTH) {
    const candidates = first(size);
    const pins = pinned(rules, k, mayCome, tensors);
    const every = new Map(candidates.map((one) => [one.row, one]));
    const wanted = rules
      .filter(({ action }) => action === "boost" || action === "at_least")
      .flatMap(({ tensor }) => {
        return find(Math.max(k, CANDIDATES / 4), (row) => mayCome(row) && tensors[tensor].data[row]);
      });
    const rows = new Set(pins.values());
    for (const one of [...wanted, ...best(parts, (row) => rows.has(row), rows.size, false)]) {
      if (!every.has(one.row)) every.set(one.row, one);
    }
    const list = weighed([...every.values()], rules, tensors, now);
    const places = new Map(list.map(({ row }, n) => [row, n]));
    const reserved = new Map([...pins].map(([place, row]) => [place, places.get(row)]));
    const chosen = composed(rules, list, k, reserved, tensors);
    if (chosen.length === k || candidates.length < size) return chosen.map((n) => list[n]);
  }
}

/** Candidates with what rules add to their scores, the best first. */
function weighed(candidates, rules, tensors, now) {
  const added = boosts(rules, candidates, tensors, now);
  const list = candidates.map((one, n) => ({ ...one, boost: added[n] }));
  list.sort((a, b) => b.score + b.moved - (a.score + a.moved) || a.row - b.row);
  return list.sort((a, b) => b.score + b.moved + b.boost - (a.score + a.moved + a.boost)); // equal ones stay as they were
}

/** The addends of the scores of all items, one array for each part, by these factors. */
function partsOf({ dense, reads }, factors, facts, { dense: items, ...tensors }) {
  const [count, width] = items.shape;
  const byPart = Object.values(facts.parts).map(([start, stop]) => {
    const products = new Float64Array(count);
    for (let row = 0; row < count; row++) {
      let product = 0;
      for (let d = start; d < stop; d++) product += items.data[row * width + d] * dense[d];
      products[row] = Math.fround(product);
    }
    return products;
  });
  const starts = tensors["item_item.starts"].data;
  const neighbors = tensors["item_item.items"].data;
  const values = tensors["item_item.values"].data;
  const sparse = Object.values(facts.sparse_parts).map(([first], number) => {
    const products = new Float64Array(count);
    for (const [row, weight] of reads[number]) {
      const dimension = first + row;
      if (dimension + 1 >= starts.length) continue;
      for (let n = starts[dimension]; n < starts[dimension + 1]; n++) products[neighbors[n]] += values[n] * weight;
    }
    return products;
  });
  const all = [...byPart, ...sparse];
  [...Object.keys(facts.parts), ...Object.keys(facts.sparse_parts)].forEach((name, number) => {
    const factor = factors[name] ?? 1; // of known items alone
    for (let row = 0; factor !== 1 && row < count; row++) if (tensors.known.data[row]) all[number][row] *= factor;
  });
  return all;
}

/** At most `size` items, the best first, cold ones in their places among the first ten. */
function found(parts, mayCome, size, wanted, places, { known, cold }) {
  const first = best(parts, (row) => known.data[row] && mayCome(row), Math.max(size, wanted), false);
  const others = first.length >= size ? wanted : Math.max(size, wanted);
  return merged(first, best(parts, (row) => cold.data[row] && mayCome(row), others, true), places).slice(0, size);
}

function best(parts, chosen, size, cold) {
  const rows = [];
  const count = parts[0].length;
  const scores = new Float64Array(count);
  for (const part of parts) for (let row = 0; row < count; row++) scores[row] += part[row];
  for (let row = 0; row < count; row++) if (chosen(row)) rows.push(row);
  rows.sort((a, b) => scores[b] - scores[a] || a - b);
  return rows.slice(0, size).map((row) => {
    return { row, parts: parts.map((part) => part[row]), own: scores[row], score: scores[row], cold, lift: 0, moved: 0 };
  });
}

/** Cold items are spread between the known ones around the places that they get; see `cold_start.merge`. */
function merged(known, cold, places) {
  const own = places.slice(Math.max(0, places.length - cold.length));
  const first = known.length > TOP - own.length ? own.length : 0;
  if (known.length && cold.length) {
    const after = own.map((place, n) => place - 1 - n); // known items that stand before each
    const level = known[Math.min(TOP, known.length) - 1].score;
    const at = cold.map((_, n) => (first ? between(known, after, n) : level));
    const last = Math.max(0, first - 1);
    for (let n = last + 1; n < cold.length; n++) at[n] = at[last] + (cold[n].own - cold[last].own);
    cold.forEach((one, n) => Object.assign(one, { score: at[n], lift: at[n] - one.own }));
  }
  const others = known.slice(0, first ? TOP - first : 0);
  const top = cold.slice(0, first);
  own.slice(own.length - first).forEach((place, n) => others.splice(place - 1, 0, top[n]));
  const rest = [...known.slice(first ? TOP - first : 0), ...cold.slice(first)]; // of equal scores known ones first
  return [...others, ...rest.sort((a, b) => b.score - a.score)];
}

/** The score of the n-th cold item, evenly between the known items around it. */
function between(known, after, n) {
  if (n >= after.length) return 0;
  const [before, behind] = [known[after[n] - 1].score, known[after[n]].score];
  const number = n + 1 - after.indexOf(after[n]);
  return before - ((before - behind) * number) / (after.filter((one) => one === after[n]).length + 1);
}

/** The candidates in the order of the second stage, which moves the first ones; the rest go down behind them. */
function reranked(candidates, history, names, facts, tensors) {
  const first = candidates.slice(0, CANDIDATES);
  if (!first.length) return candidates;
  const moved = moves(first, history, names, facts, tensors);
  const least = Math.min(...first.map(({ score }, n) => score + moved[n]));
  const down = -Math.max(0, first.at(-1).score - least);
  const list = candidates.map((one, n) => ({ ...one, moved: n < moved.length ? moved[n] : down }));
  return list.sort((a, b) => b.score + b.moved - (a.score + a.moved)); // equal ones stay as they were
}

"use strict";
// One function for each panel: a setting and its moments → SVG and numbers.

const panels = (() => {
  const { bar, curve, dot, draw, level, linearTicks, logTicks } = charts;
  const { number, tag, upright } = charts;

  const paint = (colour, more = "") => ({
    style: `stroke:var(--${colour});${more}`,
  });
  const fill = (colour) => ({ style: `fill:var(--${colour})` });
  const byId = (id) => document.getElementById(id);

  function legend(id, entries) {
    const line = ({ colour, style = "" }) =>
      tag("line", { x1: 0, x2: 26, y1: 5, y2: 5, ...paint(colour, style) });
    const block = ({ colour }) =>
      tag("rect", { x: 8, width: 10, height: 10, ...fill(colour) });
    byId(id).innerHTML = entries
      .map((entry) => {
        const sample = entry.block ? block(entry) : line(entry);
        const svg = tag("svg", { "aria-hidden": "true" }, sample);
        return tag("li", {}, svg + entry.text);
      })
      .join("");
  }

  // [id, name, value]; the value is text or a number.
  function list(id, rows) {
    const text = (value) => (typeof value === "number" ? number(value) : value);
    byId(id).innerHTML = rows
      .map(([key, name, value]) => {
        const content = tag("dd", { id: key }, text(value));
        return tag("div", {}, tag("dt", {}, name) + content);
      })
      .join("");
  }

  // The two panels of objectives

  const RATES = Array.from({ length: 321 }, (_, i) => 10 ** (i / 80 - 4));
  const TARGETS = { rloo: "rl", reinforce: "rl", dr_grpo: "rl" };

  function objectives(s) {
    const chosen = TARGETS[s.estimator] ?? s.estimator.replace("_paper", "");
    const name = s.estimator === "maxrl_paper" ? "maxrl_paper" : "maxrl";
    const width = (key) => (key === chosen ? 3 : 1.6);
    const entry = (key, colour, text, dash, of) => ({
      key,
      colour,
      text,
      of,
      style: `stroke-width:${width(key)};stroke-dasharray:${dash}`,
    });
    const all = [
      entry("rl", "rl", "RL", "7 3", maths.rl),
      entry("maxrl", name, `MaxRL, T = ${s.T}`, "none", maths.maxrl(s.T)),
      entry("ml", "maximum_likelihood", "maximum likelihood", "2 3",
        maths.maximumLikelihood),
      entry("grpo", "grpo", "GRPO", "10 3 2 3", maths.grpo),
    ];
    if (s.estimator === "pass_at_k") {
      const of = maths.passAtK(s.T);
      all.push(entry("pass_at_k", "pass_at_k", `pass@${s.T}`, "5 2 1 2", of));
    }
    return all;
  }

  function againstRate(s, id, what, y, description) {
    const shown = objectives(s);
    legend(`${id}-legend`, shown);
    const ticks = logTicks(1e-4, 1);
    const label = "pass rate p, logarithmic";
    const x = { low: 1e-4, high: 1, log: true, ticks, label };
    const marks = (at) =>
      upright(at, s.p, { class: "here" }) +
      shown
        .map(({ of, colour, style }) => {
          const points = RATES.map((p) => [p, of[what](p)]);
          return (
            curve(at, points, paint(colour, style)) +
            dot(at, s.p, of[what](s.p), fill(colour))
          );
        })
        .join("");
    draw(byId(id), { height: 260, x, y, marks, description });
    const rows = shown.map((o) => [`${id}-${o.key}`, o.text, o.of[what](s.p)]);
    list(`${id}-numbers`, rows);
  }

  function weight(s) {
    const ticks = logTicks(1, 1e4);
    const y = { low: 0.7, high: 1e4, log: true, ticks, label: "w(p), logarithmic" };
    const w = number(maths.objective(s).weight(s.p));
    againstRate(s, "weight", "weight", y, `Weights against p: w(${s.p}) = ${w}`);
  }

  function objective(s) {
    const y = { low: -9.5, high: 0, ticks: linearTicks(-8, 0, 4), label: "J(p)" };
    const J = number(maths.objective(s).value(s.p));
    againstRate(s, "objective", "value", y,
      `Objectives against p: J(${s.p}) = ${J}`);
  }

  // The estimate by K

  // The counts K that happen, and the one that was chosen.
  function likely({ chance }, K) {
    const enough = 1e-4 * Math.max(...chance);
    const first = chance.findIndex((x) => x >= enough);
    const last = chance.findLastIndex((x) => x >= enough);
    return [Math.min(first, K), Math.max(last, K)];
  }

  function estimate(s, m) {
    const [first, last] = likely(m, s.K);
    const counts = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    const x = { low: first - 0.5, high: last + 0.5 };
    x.ticks = linearTicks(first, last, 8, true);
    const target = maths.objective(s).weight(s.p);
    legend("estimate-legend", [
      { colour: "text", style: "stroke-dasharray:5 4", text: "mean of ŵ" },
      { colour: s.estimator, style: "stroke-width:2.5", text: "w(p)" },
      { colour: s.estimator, block: true, text: "ŵ(K), chosen K filled" },
    ]);
    drawChance(s, m, counts, x);
    drawEstimates(s, m, counts, x, target);
    const known = Math.abs(m.bias) <= 1e-10 * (target + m.deviation);
    const percent = `${number(m.bias)} (${number((100 * m.bias) / target, 3)} %)`;
    list("estimate-numbers", [
      ["mean", "mean of ŵ", m.mean],
      ["target", "w(p)", target],
      ["bias", "bias", s.p === 1 ? NaN : known ? "0 to rounding" : percent],
      ["variance", "variance of ŵ", m.variance],
      ["deviation", "standard deviation", m.deviation],
      ["nothing", "probability of K = 0", m.chance[0]],
    ]);
  }

  function drawChance(s, m, counts, x) {
    const most = Math.max(...m.chance);
    const high = Math.max(most * 1.08, 0.001);
    const y = { low: 0, high, ticks: linearTicks(0, high, 3), label: "P(K)" };
    const marks = (at) => {
      const width = Math.max(1, 0.8 * (at.X(1) - at.X(0)));
      const one = (K) => {
        const opacity = K === s.K ? 1 : 0.4;
        const style = `fill:var(--${s.estimator});opacity:${opacity}`;
        return bar(at, K, width, 0, m.chance[K], { style, "data-count": K });
      };
      return counts.map(one).join("");
    };
    const description = `Probability of K = ${s.K} successes: ${number(m.chance[s.K])}`;
    draw(byId("chance"), { height: 130, x, y, marks, description });
  }

  function drawEstimates(s, m, counts, x, target) {
    const edges = [m.mean - m.deviation, m.mean + m.deviation];
    const values = counts.map((K) => m.estimate[K]).concat(edges, target);
    const known = values.filter(Number.isFinite).concat(0);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const room = 0.06 * (high - low || 1);
    const y = { low: low - room, high: high + room };
    y.ticks = linearTicks(y.low, y.high, 5);
    y.label = "ŵ(K); shaded: mean ± standard deviation";
    const marks = (at) => {
      const unit = at.X(1) - at.X(0);
      const one = (K) => {
        const inside = K === s.K ? s.estimator : "panel";
        const style = `stroke:var(--${s.estimator});fill:var(--${inside})`;
        const r = Math.max(1.5, Math.min(4, unit / 3));
        return dot(at, K, m.estimate[K], { style, r, "data-count": K });
      };
      return [
        Number.isFinite(m.mean)
          ? bar(at, (x.low + x.high) / 2, at.right - at.left, ...edges, {
              class: "band",
              ...fill(s.estimator),
            })
          : "",
        level(at, 0, { class: "axis" }),
        Number.isFinite(target) && s.p < 1
          ? level(at, target, paint(s.estimator, "stroke-width:2.5"))
          : "",
        Number.isFinite(m.mean)
          ? level(at, m.mean, paint("text", "stroke-dasharray:5 4"))
          : "",
        counts.map(one).join(""),
      ].join("");
    };
    const description = `Mean estimate ${number(m.mean)}, w(p) ${number(target)}`;
    const labelled = { ...x, label: "K, successes of N rollouts" };
    draw(byId("estimate"), { height: 230, x: labelled, y, marks, description });
  }

  // The advantages of one group

  function group(s, m) {
    const { right, wrong } = maths.advantages(s);
    const [good, bad] = [right[s.K], wrong[s.K]];
    legend("group-legend", [
      { colour: s.estimator, block: true, text: `${s.K} successes` },
      { colour: "wrong", block: true, text: `${s.N - s.K} failures` },
    ]);
    const known = [good, bad, 0].filter(Number.isFinite);
    let [low, high] = [Math.min(...known), Math.max(...known)];
    if (low === high) [low, high] = [-1, 1];
    const room = 0.08 * (high - low);
    const y = { low: low - room, high: high + room, label: "advantage" };
    y.ticks = linearTicks(y.low, y.high, 5);
    const x = { low: 0.5, high: s.N + 0.5, label: "rollout j" };
    x.ticks = linearTicks(1, s.N, 8, true);
    const marks = (at) => {
      const unit = at.X(1) - at.X(0);
      const width = unit > 4 ? 0.6 * unit : Math.max(1.5, unit);
      const all = Array.from({ length: s.N }, (_, j) => {
        const isRight = j < s.K;
        const A = isRight ? good : bad;
        const colour = fill(isRight ? s.estimator : "wrong");
        return bar(at, j + 1, width, 0, A, colour);
      });
      return all.join("") + level(at, 0, { class: "axis" });
    };
    const description = `Success ${number(good)}, failure ${number(bad)}`;
    draw(byId("group"), { height: 360, x, y, marks, description });
    const sum = (s.K && s.K * good) + (s.K < s.N && (s.N - s.K) * bad);
    const scale = s.N * Math.max(...known.map(Math.abs));
    list("group-numbers", [
      ["right", "a success", good],
      ["wrong", "a failure", bad],
      ["sum", "sum over the group", Math.abs(sum) <= 1e-12 * scale ? 0 : sum],
      ["this", `ŵ(${s.K})`, m.estimate[s.K]],
      ["chance-K", `probability of K = ${s.K}`, m.chance[s.K]],
    ]);
  }

  return { estimate, group, legend, list, objective, paint, weight };
})();

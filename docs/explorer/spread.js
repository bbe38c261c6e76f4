"use strict";
// The spread of the estimate against the order T, for every baseline.

const spread = (() => {
  const { curve, dot, draw, level, logTicks, number } = charts;
  const { roundDown, roundUp, upright } = charts;

  const DASHES = ["none", "8 3", "2 3", "10 3 2 3", "5 2 1 2"];

  // √(tr Cov ĝ)/|E ĝ| by source, see maths.moments: the count K, and scores
  // that vary by ρ |∇ log(p/(1−p))| among right and among wrong rollouts.
  function relative(s) {
    const m = maths.moments(s);
    const noise = Math.sqrt((m.squareRight + m.squareWrong) / s.N);
    const scores = (s.rho * noise) / (s.p * (1 - s.p) * Math.abs(m.mean));
    return { count: m.relative, scores, total: Math.hypot(m.relative, scores) };
  }

  // Orders 1 … N, about evenly spread on a logarithmic axis.
  function orders(N) {
    const steps = Array.from({ length: 41 }, (_, i) =>
      Math.round(N ** (i / 40)),
    );
    return [...new Set([...steps, N - 1, N])].sort((a, b) => a - b);
  }

  // Slow at N = 1024, and the same for all K and T: the last ones are kept.
  let kept = {};
  function curves({ estimator, p, N, rho }) {
    const family = estimator === "pass_at_k" ? estimator : "maxrl";
    const key = [family, p, N, rho].join();
    if (kept.key !== key) {
      const found = Object.keys(maths.BASELINES).map((baseline) => {
        const setting = { estimator: family, baseline, p, N, rho };
        const at = (T) => [T, relative({ ...setting, T }).total];
        return { baseline, points: orders(N).map(at) };
      });
      kept = { key, found };
    }
    return kept.found;
  }

  // Around this setting, and the others as far as they are near.
  function scale(values, own) {
    const near = (x) => x > own / 10 && x < own * 10;
    const known = [own, ...values.filter(near)].filter((x) => x > 0);
    if (known.length === 0) return { low: 0.1, high: 10 };
    return {
      low: roundDown(Math.min(...known) / 1.3),
      high: roundUp(Math.max(...known) * 1.3),
    };
  }

  function orderAxis(N) {
    const step = N > 64 ? 4 : 2;
    const ticks = [];
    for (let T = 1; T <= N; T *= step) ticks.push(T);
    const label = "order T, logarithmic";
    return { low: 1, high: N, log: true, ticks, label };
  }

  const colourOf = (baseline) => baseline.replace("1/N", "one_over_N");

  // A line for each baseline; one for an estimator that has no baselines.
  function entries(s) {
    const hasOrder = ["maxrl", "pass_at_k"].includes(s.estimator);
    const width = (chosen) => `stroke-width:${chosen ? 3 : 1.6}`;
    const found = curves(s).map(({ baseline, points }, i) => ({
      text: baseline,
      colour: colourOf(baseline),
      chosen: hasOrder && baseline === s.baseline,
      dash: `;stroke-dasharray:${DASHES[i]}`,
      points,
    }));
    if (!hasOrder)
      found.push({ text: s.estimator, colour: s.estimator, chosen: true, dash: "" });
    return found.map((x) => ({ ...x, style: width(x.chosen) + x.dash }));
  }

  function show(s) {
    const own = relative(s);
    const lines = entries(s);
    panels.legend("spread-legend", lines);
    // The score's mean as baseline is far from the others at low orders.
    const values = lines
      .filter(({ text, points }) => points && text !== "average_score")
      .flatMap(({ points }) => points.map(([, spread]) => spread));
    const y = { ...scale(values, own.total), log: true };
    y.ticks = logTicks(y.low, y.high);
    y.label = "relative standard deviation, logarithmic";
    const marks = (at) => {
      const one = ({ points, colour, style }) =>
        points
          ? curve(at, points, panels.paint(colour, style))
          : level(at, own.total, panels.paint(colour, style));
      const { colour } = lines.find(({ chosen }) => chosen);
      const here = { style: `fill:var(--${colour})` };
      return [
        upright(at, s.T, { class: "here" }),
        own.total > 0 ? lines.map(one).join("") : "",
        dot(at, s.T, own.total, here),
      ].join("");
    };
    const description = `Relative standard deviation ${number(own.total)} at T = ${s.T}`;
    const svg = document.getElementById("spread");
    draw(svg, { height: 330, x: orderAxis(s.N), y, marks, description });
    panels.list("spread-numbers", [
      ["spread-total", "this setting", own.total],
      ["spread-count", "from the randomness of K", own.count],
      ["spread-scores", "from the scores", own.scores],
      ["spread-groups", "groups needed for 10 %", 100 * own.total ** 2],
    ]);
  }

  return { relative, show };
})();

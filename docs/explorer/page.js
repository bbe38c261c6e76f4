"use strict";
// The setting: read from the address, changed by the controls, shown.

(() => {
  const byId = (id) => document.getElementById(id);

  const START = {
    estimator: "maxrl",
    baseline: "centred",
    p: 0.02,
    N: 16,
    T: 15,
    K: 1,
    rho: 1,
    l: [0.9, 0.6, 0.35, 0.1, 0.02, 0, 0, 0],
  };

  const NOTES = {
    maxrl: (s) =>
      s.T === s.N && s.baseline === "centred"
        ? "Unbiased for ∇J<sub>T</sub>. At T = N the baseline is that of order N − 1, so" +
          " the advantages do not sum to zero."
        : "Unbiased for ∇J<sub>T</sub>, with every baseline. Centred, T = 1 is RLOO and" +
          " T = N − 1 is Algorithm 1.",
    maxrl_paper: () => "A = (r − r̄)/r̄. Unbiased for order N − 1, not N.",
    rloo: () => "Unbiased for ∇p. It has no order; T only sets the MaxRL curves.",
    reinforce: () => "A = r. It has no order; T only sets the MaxRL curves.",
    dr_grpo: () =>
      "A = r − r̄: (1 − 1/N) times RLOO. T only sets the MaxRL curves.",
    grpo: () =>
      "A = (r − r̄)/σ. Biased: w(p) is its limit for large N. T only sets the" +
      " MaxRL curves.",
    pass_at_k: () => "Unbiased for ∇(1 − (1 − p)<sup>T</sup>): T is the k of pass@k.",
  };

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  // "0.9,0.1,…" or an array, or what one starts from.
  function likelihoods(raw) {
    const l = String(raw).split(",").map(Number);
    const good = l.length === START.l.length && l.every((x) => x >= 0 && x <= 1);
    return good ? l : START.l;
  }

  // Anything → a setting that can be shown.
  function valid(raw) {
    const real = (key) => {
      const x = raw[key] === "" ? NaN : Number(raw[key]);
      return Number.isFinite(x) ? x : START[key];
    };
    const whole = (key, low, high) => clamp(Math.round(real(key)), low, high);
    const one = (key, known) =>
      Object.hasOwn(known, raw[key]) ? raw[key] : START[key];
    return {
      estimator: one("estimator", maths.ESTIMATORS),
      baseline: one("baseline", maths.BASELINES),
      p: clamp(real("p"), 1e-4, 1),
      N: whole("N", 2, 1024),
      T: whole("T", 1, 1024),
      K: whole("K", 0, 1024),
      rho: clamp(real("rho"), 0, 100),
      l: likelihoods(raw.l),
    };
  }

  const fromAddress = () =>
    valid({ ...START, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });

  let setting = fromAddress();

  // Browsers allow few changes of the address a second.
  let waiting;
  function keepInAddress() {
    clearTimeout(waiting);
    const address = `#${new URLSearchParams(shown(setting))}`;
    waiting = setTimeout(() => history.replaceState(null, "", address), 150);
  }

  // The values that a slider stops at; whole ones about evenly on a log scale.
  function whole(low, high) {
    const steps = Array.from({ length: 121 }, (_, i) =>
      Math.round(low * (high / low) ** (i / 120)),
    );
    const all = [...new Set([...steps, high - 1, high])];
    return all.filter((x) => x >= low).sort((a, b) => a - b);
  }

  const rates = Array.from({ length: 201 }, (_, i) =>
    Number((10 ** (i / 50 - 4)).toPrecision(3)),
  );
  const noises = [0, ...rates.map((x) => x * 100).filter((x) => x >= 0.1)];
  const sizes = whole(2, 1024);
  const STOPS = {
    p: () => rates,
    N: () => sizes,
    T: (s) => whole(1, s.N),
    K: (s) => Array.from({ length: s.N + 1 }, (_, K) => K),
    rho: () => noises,
  };

  const nearest = (stops, x) =>
    stops.reduce(
      (best, stop, i) =>
        Math.abs(stop - x) < Math.abs(stops[best] - x) ? i : best,
      0,
    );

  // What is shown: T and K come back when N has room for them again, and
  // Algorithm 1 brings its own order.
  const shown = (s) => ({
    ...s,
    T: s.estimator === "maxrl_paper" ? s.N - 1 : Math.min(s.T, s.N),
    K: Math.min(s.K, s.N),
  });

  function showControls(s) {
    for (const [key, stops] of Object.entries(STOPS)) {
      const [slider, field] = [byId(`${key}-slider`), byId(key)];
      slider.max = stops(s).length - 1;
      slider.value = nearest(stops(s), s[key]);
      slider.setAttribute("aria-valuetext", charts.number(s[key]));
      field.value = s[key];
      if (["T", "K"].includes(key)) field.max = stops(s).at(-1);
    }
    for (const id of ["T", "T-slider"])
      byId(id).disabled = s.estimator === "maxrl_paper";
    byId("estimator").value = s.estimator;
    byId("baseline").value = s.baseline;
    byId("baseline").disabled = !["maxrl", "pass_at_k"].includes(s.estimator);
    const nothing = "At p = 1 every rollout succeeds and ∇p = 0: there is nothing to estimate.";
    const note = s.p === 1 ? nothing : NOTES[s.estimator](s);
    // Set only where it changes, as changes are read out.
    if (byId("note").dataset.shown !== note) byId("note").innerHTML = note;
    byId("note").dataset.shown = note;
  }

  function show() {
    const s = shown(setting);
    const moments = maths.moments(s);
    showControls(s);
    panels.weight(s);
    panels.objective(s);
    panels.estimate(s, moments);
    panels.group(s, moments);
    spread.show(s);
    graded.show(s);
  }

  function change(part) {
    setting = valid({ ...setting, ...part });
    keepInAddress();
    show();
  }

  // K of N, drawn as the group would be.
  function drawn({ N, p }) {
    let K = 0;
    for (let j = 0; j < N; j++) K += Math.random() < p;
    return K;
  }

  graded.build(setting.l, (l) => change({ l }));
  for (const [key, stops] of Object.entries(STOPS)) {
    const [slider, field] = [byId(`${key}-slider`), byId(key)];
    slider.min = 0;
    slider.oninput = () => change({ [key]: stops(shown(setting))[slider.value] });
    field.onchange = () =>
      change({ [key]: field.value === "" ? setting[key] : field.value });
  }
  for (const id of ["estimator", "baseline"])
    byId(id).onchange = (event) => change({ [id]: event.target.value });
  byId("draw").onclick = () => change({ K: drawn(setting) });
  for (const id of ["chance", "estimate"])
    byId(id).onclick = ({ target }) => {
      if (target.dataset.count) change({ K: target.dataset.count });
    };
  window.onhashchange = () => {
    clearTimeout(waiting);
    setting = fromAddress();
    show();
  };

  // Charts are drawn for the width they have.
  const main = document.querySelector("main");
  let width;
  function fit() {
    if (main.clientWidth === width) return;
    width = main.clientWidth;
    show();
  }
  new ResizeObserver(fit).observe(main);
  fit();
})();

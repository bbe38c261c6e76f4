"use strict";
// Rollouts that are neither right nor wrong: likelihoods in [0, 1] → advantages.

const graded = (() => {
  // ē_k of the likelihoods, k = 0 … n: the mean over all k-subsets of the
  // product of their failures. Positive terms only, one likelihood at a time.
  function symmetricMeans(likelihoods) {
    let means = [1];
    likelihoods.forEach((l, i) => {
      const m = i + 1;
      means = Array.from({ length: m + 1 }, (_, k) => {
        const kept = k < m ? ((m - k) / m) * means[k] : 0;
        return kept + (k > 0 ? (k / m) * (1 - l) * means[k - 1] : 0);
      });
    });
    return means;
  }

  const mean = (x) => x.reduce((sum, v) => sum + v, 0) / x.length;

  // ω_j = Σ_k a_k ē_k and b_j = Σ_k a_k (ē_k − ē_{k+1}) over the others; the
  // baseline leaves out the term for which no rollout is left.
  function leaveOneOut(others, coefficient, T) {
    const means = symmetricMeans(others);
    let [weight, centred] = [0, 0];
    for (let k = 0; k < T; k++) {
      weight += coefficient(k) * means[k];
      if (k < others.length)
        centred += coefficient(k) * (means[k] - means[k + 1]);
    }
    return { weight, centred };
  }

  const BASELINES = {
    centred: (loo) => loo.centred,
    none: () => 0,
    loo_mean: (loo, others) => loo.weight * mean(others),
    average_score: () => 1,
    "1/N": (loo, others) => 1 / (others.length + 1),
  };

  const series = (coefficient) => (l, s) =>
    l.map((own, j) => {
      const others = l.toSpliced(j, 1);
      const loo = leaveOneOut(others, (k) => coefficient(k, s.T), s.T);
      return loo.weight * own - BASELINES[s.baseline](loo, others);
    });

  function selfNormalized(l) {
    const middle = mean(l);
    return l.map((x) => (middle > 0 ? x / middle - 1 : 0));
  }

  function standardized(l) {
    const middle = mean(l);
    const deviation = Math.sqrt(mean(l.map((x) => (x - middle) ** 2)));
    const flat = l.every((x) => x === l[0]);
    return l.map((x) => (flat ? 0 : (x - middle) / deviation));
  }

  const ESTIMATORS = {
    maxrl: series(() => 1),
    maxrl_paper: selfNormalized,
    rloo: (l) => l.map((x, j) => x - mean(l.toSpliced(j, 1))),
    reinforce: (l) => l,
    dr_grpo: (l) => l.map((x) => x - mean(l)),
    grpo: standardized,
    pass_at_k: series((k, T) => (k === T - 1 ? T : 0)),
  };

  // A_j of the likelihoods l [n]; a series takes orders 1 … n.
  const advantages = (l, s) => ESTIMATORS[s.estimator](l, s);

  // The panel: a slider for each likelihood, its advantage beside it

  const { bar, draw, level, linearTicks, number, tag } = charts;
  const rows = () => document.getElementById("graded-rows");

  function build(likelihoods, change) {
    const row = (_, j) => {
      const name = `Likelihood of rollout ${j + 1}`;
      const slider = { type: "range", min: 0, max: 1, step: 0.01 };
      const cells = [
        tag("th", { scope: "row" }, j + 1),
        tag("td", {}, tag("input", { ...slider, "aria-label": name })),
        tag("td", {}),
        tag("td", {}),
      ];
      return tag("tr", {}, cells.join(""));
    };
    rows().innerHTML = likelihoods.map(row).join("");
    const sliders = [...rows().querySelectorAll("input")];
    rows().oninput = () => change(sliders.map((x) => Number(x.value)));
  }

  function show(s) {
    const { l } = s;
    // One less than the group, so that the centred baseline has its term.
    const T = Math.min(s.T, l.length - 1);
    const A = advantages(l, { ...s, T });
    const hasOrder = ["maxrl", "pass_at_k"].includes(s.estimator);
    [...rows().children].forEach((row, j) => {
      row.querySelector("input").value = l[j];
      row.children[2].textContent = number(l[j]);
      row.children[3].textContent = number(A[j]);
    });
    const [low, high] = [Math.min(0, ...A), Math.max(0, ...A)];
    const room = 0.08 * (high - low || 2);
    const y = { low: low - room, high: high + room, label: "advantage" };
    y.ticks = linearTicks(y.low, y.high, 5);
    const x = { low: 0.5, high: l.length + 0.5, label: "rollout j" };
    x.ticks = l.map((_, j) => j + 1);
    const style = `fill:var(--${s.estimator})`;
    const marks = (at) =>
      A.map((a, j) => bar(at, j + 1, 0.6 * (at.X(1) - at.X(0)), 0, a, { style }))
        .concat(level(at, 0, { class: "axis" }))
        .join("");
    const description = `Advantages ${A.map((a) => number(a)).join(", ")}`;
    const svg = document.getElementById("graded");
    draw(svg, { height: 190, x, y, marks, description });
    const sum = A.reduce((total, a) => total + a);
    panels.list("graded-numbers", [
      ["graded-order", "order", hasOrder ? T : "none"],
      ["graded-sum", "sum over the group", Math.abs(sum) < 1e-12 ? 0 : sum],
    ]);
  }

  return { advantages, build, show };
})();

"use strict";
// What maxrl_jax computes, where a rollout is right (1) or wrong (0).
//
// N rollouts of one prompt, each right with chance p; K of them are right. All
// right ones have one advantage and all wrong ones another, functions of K.
// A setting is {estimator, baseline, p, N, T, K}. tests/test_explorer.py holds
// every function here against the library and against rational arithmetic.

const maths = (() => {
  // (1−p)^k without rounding 1−p first.
  const failures = (p, k) => (k === 0 ? 1 : Math.exp(k * Math.log1p(-p)));

  // J(p), shifted to J(1) = 0, and w(p) = J'(p).
  const rl = { value: (p) => p - 1, weight: () => 1 };

  const maximumLikelihood = { value: Math.log, weight: (p) => 1 / p };

  const grpo = {
    value: (p) => -2 * Math.atan2(Math.sqrt(1 - p), Math.sqrt(p)),
    weight: (p) => 1 / Math.sqrt(p * (1 - p)),
  };

  const maxrl = (T) => ({
    value(p) {
      let [total, power] = [0, 1];
      for (let k = 1; k <= T; k++) {
        power *= 1 - p;
        total -= power / k;
      }
      return total;
    },
    weight: (p) => -Math.expm1(T * Math.log1p(-p)) / p,
  });

  const passAtK = (k) => ({
    value: (p) => -failures(p, k),
    weight: (p) => k * failures(p, k - 1),
  });

  // C(n−c, T)/C(n, T) for c = 0 … n: no success among T drawn from n samples
  // of which c succeeded; and 1 minus it, a sum of positive terms.
  function draws(T, n) {
    const none = [1];
    const some = [0];
    for (let c = 0; c < n; c++) {
      const hit = Math.min(1, T / (n - c));
      none.push(none[c] * Math.max(0, (n - c - T) / (n - c)));
      some.push(some[c] + (1 - some[c]) * hit);
    }
    return { none, some };
  }

  // Weight ω and centred baseline b where c of the other N−1 are right.
  function maxrlLeaveOneOut(T, N) {
    const all = draws(T, N).some;
    const others = draws(Math.min(T, N - 1), N - 1).some;
    return {
      weight: (c) => (N / (c + 1)) * all[c + 1],
      centred: (c) => others[c],
    };
  }

  function passAtKLeaveOneOut(k, N) {
    const { none } = draws(k - 1, N - 1);
    const left = N - k; // For k = N no rollout is left to compare with.
    return {
      weight: (c) => k * none[c],
      centred: (c) => (left > 0 ? ((k * c) / left) * none[c] : 0),
    };
  }

  // b of a rollout: (ω and centred baseline, others right, N).
  const BASELINES = {
    centred: (loo, c) => loo.centred(c),
    none: () => 0,
    loo_mean: (loo, c, N) => (loo.weight(c) * c) / (N - 1),
    average_score: () => 1,
    "1/N": (loo, c, N) => 1 / N,
  };

  const weighed = (leaveOneOut) => (s) => {
    const loo = leaveOneOut(s.T, s.N);
    const baseline = (c) => BASELINES[s.baseline](loo, c, s.N);
    return {
      right: (K) => loo.weight(K - 1) - baseline(K - 1),
      wrong: (K) => -baseline(K),
    };
  };

  const standardized = (numerator, denominator) =>
    denominator === 0 ? 0 : Math.sqrt(numerator / denominator);

  // Each: the advantages by K, and the objective whose w(p) it is held against.
  const ESTIMATORS = {
    maxrl: {
      advantages: weighed(maxrlLeaveOneOut),
      objective: (s) => maxrl(s.T),
    },
    maxrl_paper: {
      advantages: ({ N }) => ({
        right: (K) => (N - K) / K,
        wrong: (K) => (K === 0 ? 0 : -1),
      }),
      objective: (s) => maxrl(s.N - 1),
    },
    rloo: {
      advantages: ({ N }) => ({
        right: (K) => (N - K) / (N - 1),
        wrong: (K) => -K / (N - 1),
      }),
      objective: () => rl,
    },
    reinforce: {
      advantages: () => ({ right: () => 1, wrong: () => 0 }),
      objective: () => rl,
    },
    dr_grpo: {
      advantages: ({ N }) => ({
        right: (K) => (N - K) / N,
        wrong: (K) => -K / N,
      }),
      objective: () => rl,
    },
    grpo: {
      advantages: ({ N }) => ({
        right: (K) => standardized(N - K, K),
        wrong: (K) => -standardized(K, N - K),
      }),
      objective: () => grpo,
    },
    pass_at_k: {
      advantages: weighed(passAtKLeaveOneOut),
      objective: (s) => passAtK(s.T),
    },
  };

  const objective = (s) => ESTIMATORS[s.estimator].objective(s);

  // right[K] and wrong[K] for K = 0 … N; NaN where there is no such rollout.
  function advantages(s) {
    const { right, wrong } = ESTIMATORS[s.estimator].advantages(s);
    const counts = Array.from({ length: s.N + 1 }, (_, K) => K);
    return {
      right: counts.map((K) => (K > 0 ? right(K) : NaN)),
      wrong: counts.map((K) => (K < s.N ? wrong(K) : NaN)),
    };
  }

  // P(K), K = 0 … N, by ratios of neighbours from the likeliest outwards.
  function binomial(N, p) {
    const chance = new Array(N + 1).fill(0);
    const mode = Math.min(N, Math.floor((N + 1) * p));
    chance[mode] = 1;
    for (let K = mode; K < N; K++)
      chance[K + 1] = (chance[K] * (N - K) * p) / ((K + 1) * (1 - p));
    for (let K = mode; K > 0; K--)
      chance[K - 1] = (chance[K] * K * (1 - p)) / ((N - K + 1) * p);
    const total = chance.reduce((sum, x) => sum + x);
    return chance.map((x) => x / total);
  }

  // For any policy E[S | right] = ∇p/p and E[S | wrong] = −∇p/(1−p), so
  //
  //   E[ĝ | K] = ŵ(K) ∇p,  ŵ(K) = (K A₊/p − (N−K) A₋/(1−p)) / N
  //
  // and, with v± the trace of the scores' covariance among right and wrong,
  //
  //   tr Cov[ĝ] = Var[ŵ] |∇p|² + (squareRight v₊ + squareWrong v₋) / N.
  //
  // At p = 1 there is no wrong rollout, ∇p = 0 and nothing to estimate: NaN.
  function moments(s) {
    const { p, N } = s;
    const { right, wrong } = advantages(s);
    const chance = binomial(N, p);
    const expect = (f) => chance.reduce((sum, x, K) => sum + x * f(K), 0);
    const share = (K, A) => (K === 0 ? 0 : (K / N) * A);
    const estimate = right.map((A, K) =>
      p < 1 ? share(K, A) / p - share(N - K, wrong[K]) / (1 - p) : NaN,
    );
    const mean = expect((K) => estimate[K]);
    const variance = expect((K) => (estimate[K] - mean) ** 2);
    return {
      chance,
      estimate,
      mean,
      variance,
      deviation: Math.sqrt(variance),
      relative: Math.sqrt(variance) / Math.abs(mean),
      bias: mean - objective(s).weight(p),
      squareRight: expect((K) => share(K, right[K] ** 2)),
      squareWrong: expect((K) => share(N - K, wrong[K] ** 2)),
    };
  }

  return {
    BASELINES,
    ESTIMATORS,
    advantages,
    binomial,
    grpo,
    maximumLikelihood,
    maxrl,
    moments,
    objective,
    passAtK,
    rl,
  };
})();

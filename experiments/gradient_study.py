"""Measure the bias and variance of estimators on one prompt, without training.

    python -m experiments.gradient_study --estimators=maxrl,grpo --workdir=DIR

The policy is a softmax over `--arms` actions. The mean estimate, over all
outcomes if they are few, otherwise over samples, is compared with the exact
gradient that the estimator is documented to estimate. A target that begins with
→ is the limit of large groups; without a target no bias is computed. Writes
study.csv and study.png.
"""

import pathlib

from absl import flags

from experiments.shell import console

flags.DEFINE_list(
  "estimators",
  "maxrl,rloo,grpo",
  "Names from estimators.ESTIMATORS, except vimco and series.",
)
flags.DEFINE_list(
  "orders",
  [],
  "T of maxrl, power, tail; K of pass_at_k. Default: 1, N/2, N−1.",
)
flags.DEFINE_list(
  "baselines", "centred", "Baselines of maxrl, power, pass_at_k and tail."
)
flags.DEFINE_float("alpha", 0.5, "α of power.")
flags.DEFINE_integer("rollouts", 8, "N, rollouts per group.", 1)
flags.DEFINE_integer("arms", 4, "Actions of the policy.", 2)
flags.DEFINE_float("pass_rate", 0.1, "p of the prompt.", 0, 1)
flags.DEFINE_bool(
  "continuous", False, "Likelihoods in [0, 1] rather than binary."
)
flags.DEFINE_integer(
  "groups",
  2**16,
  "Sampled groups, if outcomes are many; a multiple of 1024.",
  1024,
)
flags.DEFINE_integer("seed", 0, "Of the policy and the samples.", 0)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder for results.", required=True
)


def _value(name: str):
  value = flags.FLAGS[name].value
  return tuple(value) if isinstance(value, list) else value


def main() -> None:
  from experiments import estimator_moments
  from maxrl_jax.runs import folders

  names = estimator_moments.Settings._fields
  settings = estimator_moments.Settings(*map(_value, names))
  rows = estimator_moments.study(settings)
  workdir = pathlib.Path(_WORKDIR.value)
  folders.make(workdir)
  table, figure = workdir / "study.csv", workdir / "study.png"
  estimator_moments.write(rows, settings, table)
  estimator_moments.draw(rows, figure)
  text = f"{estimator_moments.text(rows)}\n{table}\n{figure}"
  files = {"table": str(table), "figure": str(figure)}
  console.result(table, text, {"rows": rows} | files)


if __name__ == "__main__":
  console.run(main)

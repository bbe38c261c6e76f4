"""Real data that comes with scikit-learn."""

import jax
import numpy as np

from maxrl_jax.tasks import base
from maxrl_jax.tasks.base import Prompts
from maxrl_jax.tasks.regression import Data, normal_prompts


def diabetes(*, task_seed: int = 0) -> Data:
  """Real data: 442 patients, ten measurements, progression after a year.

  Inputs and target are standardized by the training rows; 242 rows for
  training, 80 for validation, 120 for test. The true density is unknown: the
  reference is a Bayesian ridge regression fitted to the training rows
  (scikit-learn); `clean` and `noise_scale` are its predictive mean and standard
  deviation.

  Args:
    task_seed: which rows are in which split.
  """
  # Imported here: scikit-learn takes seconds to import.
  from sklearn.datasets import load_diabetes
  from sklearn.linear_model import BayesianRidge

  data = load_diabetes(scaled=False)
  rows = np.random.default_rng(task_seed).permutation(len(data.target))
  parts = dict(
    zip(
      ("train", "validation", "test"),
      np.split(rows, [242, 322]),
      strict=True,
    )
  )
  columns = np.column_stack([data.data, data.target])
  train = columns[parts["train"]]
  columns = (columns - train.mean(0)) / train.std(0)
  x, y = columns[:, :-1].astype(np.float32), columns[:, -1:].astype(np.float32)
  fit = BayesianRidge().fit(x[parts["train"]], y[parts["train"], 0])
  mean, scale = fit.predict(x, return_std=True)
  mean = mean[:, None].astype(np.float32)
  scale = scale[:, None].astype(np.float32)
  everything = normal_prompts(x, y, mean, scale)
  splits = {
    name: jax.tree.map(lambda a, part=part: a[part], everything)
    for name, part in parts.items()
  }

  def draw(key: jax.Array, batch: int) -> Prompts:
    return base.uniform_rows(key, splits["train"], batch)

  return Data(draw, splits)

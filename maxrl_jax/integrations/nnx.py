"""Flax NNX networks as policies.

    class Net(nnx.Module):
      def __init__(self, rngs): self.out = nnx.Linear(2, 19, rngs=rngs)
      def __call__(self, inputs): return self.out(inputs)  # logits [B, 19]

    class Mine(Network, Categorical):
      pass

    trainer = training.make_train(config, task, policy=Mine(make=Net))

To use it in commands by its name, write `make: type = Net` instead of `pass`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax import nnx

Array = jax.Array


class Network(nn.Module):
  """The forward pass of an NNX module; another base class has the methods.

  Its parameters are `params["params"]["network"]`, by path.

  Args:
    make: nnx.Rngs → module; its call is inputs [B, …] → outputs [B, …].

  Raises:
    ValueError: at initialization; the module has state that is not a parameter
      (batch statistics, dropout keys).
  """

  make: Callable[[nnx.Rngs], nnx.Module]

  def check(self) -> None:
    """Raises ValueError if `make` is not a function."""
    if isinstance(self.make, nnx.Module) or not callable(self.make):
      raise ValueError(
        f"make: is a {type(self.make).__name__}, must be a class or function of"
        " nnx.Rngs, such as Net or lambda rngs: Net(rngs)"
      )

  @nn.compact
  def __call__(self, inputs: Array) -> Any:
    self.check()
    graph, state = _split(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))
    leaves = self.param("network", self._initial)
    names = _names(state)
    state = jax.tree.unflatten(
      jax.tree.structure(state), [leaves[name] for name in names]
    )
    return nnx.merge(graph, state)(inputs)

  def _initial(self, key: Array) -> dict[str, Array]:
    _, state = _split(self.make(nnx.Rngs(key)))
    return dict(zip(_names(state), jax.tree.leaves(state), strict=True))


def _split(module: nnx.Module) -> tuple[Any, Any]:
  """The graph and the parameters; raises ValueError at other state."""
  graph, *states = nnx.split(module, nnx.Param, ...)
  params, rest = states
  others = _names(rest)
  if others:
    raise ValueError(
      f"policy: its NNX module has {others[0]}, which is not an nnx.Param; only"
      " parameters are trained and saved"
    )
  return graph, params


def _names(state: Any) -> list[str]:
  """Paths of the leaves, in the order of the leaves."""
  return [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree.leaves_with_path(state)
  ]

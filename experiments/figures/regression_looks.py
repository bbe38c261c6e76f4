"""What figures of regression share: colours, and words of captions."""

from collections.abc import Sequence

from maxrl_jax import plotting

# One colour a label in all figures of regression; T = 1 is RLOO on l.
COLOURS = {
  "exact ML": plotting.COLOURS["cross_entropy"],
  "MSE": plotting.COLOURS["mse"],
  "exact RL": plotting.COLOURS["rloo"],
  "MaxRL": plotting.COLOURS["maxrl"],
  "REINFORCE on l": plotting.COLOURS["dr_grpo"],
  "REINFORCE on −MSE": plotting.COLOURS["maxrl_paper"],
  "RLOO on l": plotting.COLOURS["rloo"],
  "RLOO on −MSE": plotting.COLOURS["power"],
  "GRPO on l": plotting.COLOURS["grpo"],
  "GRPO on −MSE": plotting.COLOURS["pass_at_k"],
  "TailRL": plotting.COLOURS["tail_rl"],
  "IWAE": plotting.COLOURS["self_normalized"],
  "VIMCO": plotting.COLOURS["vimco"],
}


def rate_in_words(default: str, rates: Sequence[float], score="NLL") -> str:
  """How the learning rate was found, for a caption."""
  if not rates:
    return f"learning rate {default} for every method"
  choices = ", ".join(f"{rate:g}" for rate in rates)
  return (
    f"learning rate chosen for every method from {choices} by the validation"
    f" {score} of two other seeds"
  )

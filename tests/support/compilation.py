"""Quick compilation, for tests of programs that are many and run briefly."""

# Two fifths of the usual time, and slower programs.
QUICK = {
  "xla_backend_optimization_level": 0,
  "xla_cpu_use_fusion_emitters": False,
  "xla_cpu_parallel_codegen_split_count": 1,
}
FLAGS = " ".join(f"--{name}={str(QUICK[name]).lower()}" for name in QUICK)

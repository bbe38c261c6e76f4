"""Packaging of maxrl_jax; tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_README = _ROOT / "README.md"
_INIT = (_ROOT / "maxrl_jax" / "__init__.py").read_text(encoding="utf-8")

setup(
  name="maxrl_jax",
  version=re.search(r'__version__ = "(.+)"', _INIT)[1],
  description="Maximum-likelihood reinforcement learning in JAX",
  long_description=_README.read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  author="The maxrl_jax authors",
  license="Apache-2.0",
  license_files=["LICENSE"],
  classifiers=[
    "Development Status :: 4 - Beta",
    "Intended Audience :: Science/Research",
    "Operating System :: POSIX :: Linux",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.12",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
    "Typing :: Typed",
  ],
  python_requires=">=3.11",
  # experiments/ and configs/ are run from a clone.
  # An editable install is then a path: the folder that holds the clone, which
  # Python may be started in, has no package maxrl_jax.
  package_dir={"": "."},
  packages=find_packages(include=["maxrl_jax", "maxrl_jax.*"]),
  package_data={"maxrl_jax": ["py.typed"]},
  install_requires=[
    # The oldest that are tested; jax 0.8 fails under explicit meshes.
    "jax>=0.10.2",
    "flax>=0.12.8",
    "optax>=0.2.6",
    "chex>=0.1.91",
    "numpy>=2.0",
    "absl-py>=2.1",
    "ml-collections>=1.0",
    "scipy>=1.15",
    "matplotlib>=3.9",
    "tqdm>=4.66",
    "scikit-learn>=1.5",
    "xarray>=2025.9",
    "h5netcdf>=1.6",
    "h5py>=3.12",
    "psutil>=6",
    "safetensors>=0.5",
    "orbax-checkpoint>=0.12.8",
    "filelock>=3.16",
  ],
  extras_require={
    "cuda12": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    # tensorflow-metadata needs this protobuf but does not say so.
    "tfds": [
      "tensorflow-datasets>=4.9.10",
      "array-record>=0.8.1",
      "protobuf>=6.31.1",
      "pillow>=10.4",
      "grain>=0.2.18",
    ],
    "benchmark": ["torch>=2.6", "transformers>=4.50"],
    # No extra for verl: it brings ray, and its pins exclude constraints.txt's.
    "trl": ["torch>=2.6", "trl>=1.16"],
    # Its learner takes a cluster by another name after this version; it needs
    # this jax.
    "tunix": ["google-tunix==0.1.7", "jax<0.11.1"],
    # Where metrics can go; tensorboardX writes what tensorboard shows.
    "log": ["tensorboardX>=2.6.5", "tensorboard>=2.21", "wandb>=0.31"],
    # With Chromium on the path, for the tests that open docs/ in it.
    "browser": ["playwright>=1.50"],
    # The site of docs/; math-core makes its formulas.
    "docs": [
      "sphinx>=9",
      "myst-parser>=5",
      "furo>=2025.12",
      "sphinx-copybutton>=0.5.2",
      "math-core>=0.9",
    ],
    "notebook": ["ipykernel>=6.29", "ipywidgets>=8.1", "nbclient>=0.10"],
    "dev": [
      "maxrl_jax[docs,notebook,tfds]",
      "pytest>=8",
      "pytest-xdist>=3.6",
      "pytest-cov>=6",
      "hypothesis>=6.100",
      "ruff>=0.9",
      "mypy>=1.18",
      "pre-commit>=4",
    ],
  },
)

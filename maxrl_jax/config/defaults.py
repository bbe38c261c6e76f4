"""Every field there is, with what it means; other configs change a few.

Field None means: the default of the task, policy or estimator that takes it.
"""

from ml_collections import config_dict


def default() -> config_dict.ConfigDict:
  """The whole configuration, locked: unknown fields are refused."""
  optional = config_dict.placeholder
  config = config_dict.ConfigDict()

  config.seed = 0  # Seed of the first run; the others count up from it.
  config.runs = 1  # Seeds trained at once, vmapped into one program.
  config.steps = 3000  # Updates.
  config.batch_size = 128  # B, prompts an update.
  config.rollouts = 128  # N, rollouts a prompt.
  config.log_every = 100  # Steps a compiled chunk; divides steps.
  config.eval_every = 500  # Steps between evaluations; a multiple of log_every.
  config.eval_rollouts = 256  # Where p is not known exactly; pass@k needs k.
  # At an impossible number: stop, or skip that update and count it.
  config.on_nonfinite = "stop"

  config.checkpoint = config_dict.ConfigDict()
  config.checkpoint.every = optional(int)  # Steps; None: eval_every.
  config.checkpoint.keep_last = 2  # The newest.
  config.checkpoint.keep_best = 1  # By validation pass@1, besides.

  # Devices that share the work; None: as many as there are.
  config.mesh = config_dict.ConfigDict()
  config.mesh.runs = optional(int)  # Runs of a program; divides runs.
  config.mesh.data = optional(int)  # Prompts of a batch; divides batch_size.
  config.mesh.rollouts = optional(int)  # Of one group; None: 1.
  config.mesh.model = optional(int)  # transformer: its heads; None: 1.

  # What is maximized. An estimator (maxrl_jax.estimators.ESTIMATORS), or from
  # the exact pass rate: cross_entropy (exact ML), exact_rl, exact_maxrl,
  # exact_grpo, exact_pass_at_k, exact_power; for regression also mse, for
  # mazes supervised (shortest paths are shown).
  config.estimator = config_dict.ConfigDict()
  config.estimator.name = "maxrl"
  # T; None: N − 1. exact_maxrl, which has no N, needs one.
  config.estimator.order = optional(int)
  config.estimator.baseline = optional(object)  # A name or a number.
  config.estimator.k = optional(int)  # K of pass_at_k, exact_pass_at_k.
  config.estimator.alpha = optional(float)  # α of power, exact_power.
  config.estimator.coefficients = optional(tuple)  # a_k of series.
  config.estimator.epsilon = optional(float)  # Added to GRPO's deviation.
  config.estimator.signal = optional(str)  # likelihood, or reward (any value).
  config.estimator.entropy_bonus = optional(float)  # transformer: β, nats⁻¹.
  config.estimator.factorized = optional(bool)  # A group a target dimension.

  config.task = config_dict.ConfigDict()
  # digits, gaussian_teacher, bandit, images, streamed_images, maze; regression:
  # teacher, bimodal, heteroscedastic, bag_of_words, in_context, diabetes.
  config.task.name = "digits"
  config.task.task_seed = optional(int)  # Of data and fixed splits.
  config.task.eval_size = optional(int)  # Prompts in a fixed split.
  config.task.num_digits = optional(int)  # digits: K, 10^K classes.
  config.task.num_classes = optional(int)  # gaussian_teacher: C.
  # gaussian_teacher, teacher, heteroscedastic, bimodal, in_context: size of x.
  config.task.dim = optional(int)
  config.task.temperature = optional(float)  # gaussian_teacher: label noise.
  config.task.num_prompts = optional(int)  # bandit: contexts.
  config.task.num_arms = optional(int)  # bandit: actions.
  config.task.hardest = optional(float)  # bandit: smallest initial pass rate.
  config.task.easiest = optional(float)  # bandit: largest.
  config.task.continuous = optional(bool)  # bandit: l in [0, 1].
  # *images are images and streamed_images.
  config.task.data_name = optional(str)  # *images: tensorflow-datasets name.
  config.task.data_dir = optional(str)  # *images: where it was prepared.
  # *images: unless set 'test', of streamed_images 'validation'.
  config.task.test_split = optional(str)
  config.task.image_size = optional(int)  # *images: side to resize to.
  config.task.augment = optional(bool)  # *images: crops and flips.
  config.task.workers = optional(int)  # streamed_images: processes; 0: threads.
  config.task.kind = optional(str)  # teacher, heteroscedastic: linear, mlp.
  config.task.num_dims = optional(int)  # teacher: D target dimensions.
  config.task.snr = optional(float)  # teacher: signal over noise variance.
  config.task.noise = optional(float)  # bimodal, in_context: σ of the data.
  config.task.plus = optional(float)  # bimodal: P(+).
  config.task.learnable = optional(bool)  # heteroscedastic: x tells σ.
  config.task.quietest = optional(float)  # heteroscedastic: smallest σ.
  config.task.loudest = optional(float)  # heteroscedastic: largest σ.
  config.task.vocabulary = optional(int)  # bag_of_words: V.
  config.task.length = optional(int)  # bag_of_words: tokens.
  config.task.rho = optional(float)  # bag_of_words: corr(y, signal).
  config.task.context = optional(int)  # in_context: pairs before the query.
  config.task.size = optional(int)  # maze: S, odd, the grid is S × S.
  config.task.loops = optional(int)  # maze: walls opened beyond a tree.
  config.task.random_ends = optional(bool)  # maze: start and goal anywhere.
  config.task.train_size = optional(int)  # maze: mazes; None: fresh ones.
  config.task.max_length = optional(int)  # maze: tokens of an answer.
  config.task.tolerance = optional(float)  # regression: a hit for pass@k; 0.5.

  # Regression: the noise model that makes a prediction's likelihood.
  config.likelihood = config_dict.ConfigDict()
  config.likelihood.name = optional(str)  # gaussian (default), laplace, …
  config.likelihood.scale = optional(float)  # σ, in units of the target.
  config.likelihood.smallest_scale = optional(float)  # Where l can be 1.
  config.likelihood.degrees = optional(float)  # student_t: ν.
  config.likelihood.width = optional(float)  # tolerance: half the window.
  config.likelihood.per_prompt = optional(bool)  # σ is the prompt's own.
  config.likelihood.learned = optional(str)  # σ learned: input, global.

  config.policy = config_dict.ConfigDict()
  # mlp, cnn; images: resnet; bandit: tabular; regression: grid, normal,
  # mixture, digits; maze: transformer.
  config.policy.name = optional(str)  # None: the first the task takes.
  config.policy.hidden = optional(tuple)  # Widths of the hidden layers.
  config.policy.channels = optional(tuple)  # cnn, resnet: of convolutions.
  config.policy.stages = optional(tuple)  # resnet: blocks of each.
  config.policy.stem = optional(str)  # resnet: imagenet, cifar.
  config.policy.low = optional(float)  # grid, digits: smallest prediction.
  config.policy.high = optional(float)  # grid, digits: largest.
  config.policy.bins = optional(int)  # grid: values.
  config.policy.policy_scale = optional(float)  # normal: fixed deviation.
  config.policy.num_components = optional(int)  # mixture: normals.
  config.policy.base = optional(int)  # digits: of the number system.
  config.policy.length = optional(int)  # digits: written.
  config.policy.num_layers = optional(int)  # transformer: blocks.
  config.policy.hidden_size = optional(int)  # transformer: numbers a token.
  config.policy.intermediate_size = optional(int)  # transformer: feed-forward.
  config.policy.num_heads = optional(int)  # transformer: of queries.
  config.policy.num_kv_heads = optional(int)  # transformer: of keys, values.
  config.policy.max_positions = optional(int)  # transformer: prompt and answer.
  config.policy.temperature = optional(float)  # transformer: of the softmax.
  config.policy.dtype = optional(str)  # transformer, resnet: or bfloat16.
  config.policy.remat = optional(bool)  # transformer: memory for time.
  config.policy.checkpoint = optional(str)  # transformer: Qwen2 folder.

  config.optimizer = config_dict.ConfigDict()
  config.optimizer.name = "sgd"  # sgd, adam, adamw.
  config.optimizer.learning_rate = 0.1  # Peak.
  config.optimizer.momentum = 0.9  # sgd.
  config.optimizer.weight_decay = 0.0  # adamw.
  config.optimizer.clip_norm = optional(float)  # Global gradient norm.
  # Skip updates whose gradient is so many times as long as usual.
  config.optimizer.spike_factor = optional(float)
  config.optimizer.warmup = 0  # Steps of linear warm-up.
  config.optimizer.schedule = "cosine"  # cosine (to zero) or constant.

  return config.lock()

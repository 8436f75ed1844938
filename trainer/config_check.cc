// SPDX-License-Identifier: Apache-2.0
#include "trainer/config_check.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <fmt/format.h>

#include "trainer/config_registry.h"
#include "trainer/policy_table.h"

namespace farsight {
namespace {

using Keys = std::vector<std::string>;

class Checker {
 public:
  Checker(Config& config, std::string file_name, const std::set<std::string>& bad, ConfigProblems& problems)
      : config_(config),
        defaults_(default_config(config.task.kind, config.model.kind)),
        file_name_(std::move(file_name)),
        bad_(bad),
        problems_(problems) {}

  void all();

 private:
  // True when every key could be read, so that a rule about them makes sense.
  bool readable(const Keys& keys) const {
    return std::none_of(keys.begin(), keys.end(), [&](const std::string& key) { return bad_.count(key) > 0; });
  }
  template <typename... Args>
  void require(bool condition, const Keys& keys, fmt::format_string<Args...> format, Args&&... args) {
    if (condition || !readable(keys)) return;
    problems_.add(first_origin(config_, keys, file_name_), fmt::format(format, std::forward<Args>(args)...));
  }
  // A key that has been changed although nothing reads it here.
  void idle(bool active, const char* key, const char* needs) {
    const Config& defaults = defaults_;
    if (active || bad_.count(key) > 0) return;
    const auto& print = find_config_key(key)->print;
    require(print(config_) == print(defaults), {key}, "{} = {} has no effect: it needs {}", key, print(config_), needs);
  }

  void run();
  void data();
  void model();
  void attention();
  void parallel();
  void optim();
  void train();
  void batch();

  bool forecasts() const { return config_.task.kind == TaskKind::forecast; }
  void kinds();
  void language_keys();
  void forecast_keys();
  void forecast_model();

  Config& config_;
  Config defaults_;  // of the same task
  std::string file_name_;
  const std::set<std::string>& bad_;
  ConfigProblems& problems_;
};

void Checker::run() {
  RunConfig& run = config_.run;
  if (run.name.empty()) run.name = std::filesystem::path(file_name_).stem().string();
  require(!run.name.empty() && run.name.find('/') == std::string::npos && run.name != "." && run.name != "..",
          {"run.name"}, "run.name = {} must be a name without '/'", quote(run.name));
  constexpr std::string_view place = "{name}";
  for (size_t at = run.dir.find(place); at != std::string::npos; at = run.dir.find(place, at + run.name.size()))
    run.dir.replace(at, place.size(), run.name);
  require(!run.dir.empty(), {"run.dir"}, "run.dir is empty; for example \"runs/{{name}}\"");
}

// What "auto" kinds are, and that model and loss belong to the task.
void Checker::kinds() {
  ModelKind& model = config_.model.kind;
  if (model == ModelKind::automatic) model = forecasts() ? ModelKind::patchtst : ModelKind::decoder;
  LossChoice& loss = config_.loss.kind;
  if (loss == LossChoice::automatic) loss = forecasts() ? LossChoice::mse : LossChoice::cross_entropy;
  require((model == ModelKind::decoder) != forecasts(), {"model.kind", "task.kind"},
          "model.kind does not belong to task.kind = \"{}\": \"lm\" has decoder, \"forecast\" has linear and patchtst",
          forecasts() ? "forecast" : "lm");
  require((loss == LossChoice::cross_entropy) != forecasts(), {"loss.kind", "task.kind"},
          "loss.kind does not belong to task.kind = \"{}\": \"lm\" has cross_entropy, \"forecast\" all others",
          forecasts() ? "forecast" : "lm");
}

// Keys that only language models read.
void Checker::language_keys() {
  constexpr const char* kNeeds = "task.kind = \"lm\"";
  for (const char* key :
       {"data.pack", "model.mlp", "model.vocab", "model.tie_embeddings", "attention.score", "attention.norm",
        "attention.mask", "attention.qk_norm", "attention.position", "attention.rope_theta", "attention.bias",
        "attention.entropy_weight", "attention.backend", "train.label_smoothing", "train.loss_chunk", "train.recompute",
        "train.offload", "eval.prompt", "eval.sample_tokens"}) {
    idle(!forecasts(), key, kNeeds);
  }
  if (!forecasts()) return;
  const int64_t resolved = std::max<int64_t>(2, (config_.data.lookback - 1) / config_.model.patch_stride + 1);
  require(config_.data.sequence == defaults_.data.sequence || config_.data.sequence == resolved, {"data.sequence"},
          "data.sequence belongs to task.kind = \"lm\"; forecasts have data.lookback and data.horizon");
  config_.data.sequence = resolved;
}

// Keys that only forecasters read.
void Checker::forecast_keys() {
  for (const char* key :
       {"data.lookback", "data.horizon", "data.stride", "data.targets", "data.covariates", "data.calendar",
        "data.normalise", "model.instance_norm", "model.instance_affine", "eval.season"}) {
    idle(forecasts(), key, "task.kind = \"forecast\"");
  }
  const ModelConfig& m = config_.model;
  const bool linear = m.kind == ModelKind::linear, patchtst = m.kind == ModelKind::patchtst;
  for (const char* key : {"model.form", "model.solver", "model.individual"}) {
    idle(linear, key, "model.kind = \"linear\"");
  }
  for (const char* key : {"model.patch", "model.patch_stride", "model.residual_attention"}) {
    idle(patchtst, key, "model.kind = \"patchtst\"");
  }
  idle(m.instance_norm, "model.instance_affine", "model.instance_norm = true");
  const LossChoice loss = config_.loss.kind;
  idle(loss == LossChoice::quantile, "loss.levels", "loss.kind = \"quantile\"");
  idle(loss == LossChoice::huber, "loss.delta", "loss.kind = \"huber\"");
  idle(loss == LossChoice::mixture, "loss.components", "loss.kind = \"mixture\"");
}

void Checker::forecast_model() {
  ModelConfig& m = config_.model;
  const DataConfig& d = config_.data;
  const ParallelConfig& p = config_.parallel;
  if (m.kind == ModelKind::patchtst) {
    require(m.kv_heads == m.heads && m.head_width * m.heads == m.width,
            {"model.kv_heads", "model.head_width", "model.heads", "model.width"},
            "patchtst has as many key heads as query heads, of model.width / model.heads each");
    require(m.patch <= d.lookback, {"model.patch", "data.lookback"},
            "model.patch = {} is longer than data.lookback = {}", m.patch, d.lookback);
    const int64_t tokens = (d.lookback - m.patch) / m.patch_stride + 2;
    require(tokens <= 1024, {"data.lookback", "model.patch_stride", "model.patch"},
            "data.lookback = {} makes {} tokens of a channel; patchtst takes at most 1024: take a longer "
            "model.patch_stride",
            d.lookback, tokens);
    require(m.norm != NormChoice::rms, {"model.norm"},
            "model.norm = \"rms\" is not in patchtst: use sync_batch, batch "
            "or layer");
  }
  require(m.kind != ModelKind::linear || m.solver == SolverChoice::gradient ||
              (m.form == LinearForm::nlinear && !m.individual && config_.loss.kind == LossChoice::mse),
          {"model.solver", "model.form", "model.individual", "loss.kind"},
          "model.solver = \"closed_form\" solves form = \"nlinear\" with shared weights for loss.kind = \"mse\"");
  const bool solved = m.kind == ModelKind::linear && m.solver == SolverChoice::closed_form;
  require(!solved || (p.zero == 0 && config_.train.precision == PrecisionChoice::f32),
          {"model.solver", "parallel.zero", "train.precision"},
          "model.solver = \"closed_form\" computes whole fp32 weights at once: parallel.zero = 0, train.precision = "
          "\"f32\"");
  for (const auto& [key, extent] :
       {std::pair{"parallel.ring", p.ring}, {"parallel.ulysses", p.ulysses}, {"parallel.tensor", p.tensor}}) {
    require(extent <= 1, {key},
            "{} = {}: a {} model treats every channel by itself and is too small to be shared out; "
            "use data-parallel ranks only",
            key, extent, m.kind == ModelKind::linear ? "linear" : "patchtst");
  }
}

void Checker::data() {
  require(!config_.data.train.empty(), {"data.train"},
          "data.train is missing: the HDF5 files to train on, for example train = [\"corpus.h5\"]");
}

void Checker::model() {
  ModelConfig& m = config_.model;
  if (m.kv_heads == 0) m.kv_heads = m.heads;
  require(m.heads % m.kv_heads == 0, {"model.kv_heads", "model.heads"},
          "model.heads = {} is not divisible by model.kv_heads = {}; choose kv_heads in {{{}}}", m.heads, m.kv_heads,
          divisors_text(m.heads));
  if (m.head_width == 0) {
    const bool divides = m.width % m.heads == 0;
    m.head_width = divides ? m.width / m.heads : 2;
    require(divides, {"model.heads", "model.width"},
            "model.width = {} is not divisible by model.heads = {}; choose heads in {{{}}}, or set model.head_width",
            m.width, m.heads, divisors_text(m.width));
  }
  require(forecasts() || m.norm == NormChoice::rms || m.norm == NormChoice::layer, {"model.norm", "task.kind"},
          "model.norm: batch norms belong to forecasters; choose \"rms\" or \"layer\"");
  if (m.mlp_width == 0) {
    const int64_t third = (8 * m.width + 2) / 3;
    m.mlp_width = m.mlp == MlpChoice::gelu ? 4 * m.width : (third + 31) / 32 * 32;
  }
}

void Checker::attention() {
  const AttentionConfig& a = config_.attention;
  const ModelConfig& m = config_.model;
  const bool rope = a.position == PositionChoice::rope;
  require(!rope || m.head_width % 2 == 0, {"model.head_width", "model.heads", "model.width", "attention.position"},
          "model.head_width = {} must be even for attention.position = \"rope\"", m.head_width);
  require(!rope || a.score == ScoreChoice::scaled_dot, {"attention.position", "attention.score"},
          "attention.position = \"rope\" rotates q and k, which attention.score = \"additive\" does not multiply; "
          "use position = \"learned\" or \"none\"");
  require(forecasts() || a.mask.causal || a.mask.window_right == 0, {"attention.mask"},
          "attention.mask = {} lets a token see the one it predicts, and task.kind = \"lm\" would learn to copy; add "
          "'causal'",
          quote(format_mask(a.mask)));
  idle(rope, "attention.rope_theta", "attention.position = \"rope\"");
  require(a.backend != BackendChoice::cudnn || config_.run.device != DeviceChoice::cpu,
          {"attention.backend", "run.device"},
          "attention.backend = \"cudnn\" computes on CUDA devices, and run.device = "
          "\"cpu\"");
  require(a.backend != BackendChoice::cudnn || config_.train.precision == PrecisionChoice::bf16,
          {"attention.backend", "train.precision"},
          "attention.backend = \"cudnn\" computes in bf16: set train.precision = \"bf16\"");
}

void Checker::parallel() {
  const ParallelConfig& p = config_.parallel;
  const bool striped = p.order == OrderChoice::striped || p.order == OrderChoice::automatic;
  idle(striped, "parallel.stripe", "parallel.order = \"striped\" or \"auto\"");
  idle(p.tensor > 1, "parallel.sequence_parallel", "parallel.tensor > 1");
  idle(p.zero > 0, "parallel.zero_group", "parallel.zero > 0");
  const auto contexts = context_of_layers(config_);
  const bool gathers = std::find(contexts.begin(), contexts.end(), ContextChoice::allgather) != contexts.end();
  idle(gathers, "parallel.gather_heads", "parallel.context = \"allgather\"");
  for (const ContextOverride& entry : p.overrides) {
    require(entry.last < config_.model.layers, {"parallel.override", "model.layers"},
            "parallel.override names layer {}, but model.layers = {} are numbered from 0", entry.last,
            config_.model.layers);
  }
  const int64_t context = p.ring * p.ulysses;
  const int64_t least = p.ulysses * p.ring *
                        (p.order == OrderChoice::zigzag    ? 2
                         : p.order == OrderChoice::striped ? p.stripe
                                                           : 1);
  require(
      context <= config_.data.sequence && least <= config_.data.sequence,
      {"parallel.ring", "parallel.ulysses", "data.sequence", "parallel.order", "parallel.stripe"},
      "data.sequence = {} is too short for parallel.ring = {} x parallel.ulysses = {} ranks in order {}: it needs at "
      "least {} tokens",
      config_.data.sequence, p.ring, p.ulysses, to_string(p.order), least);
  // Refused above, or unreadable: there is no dealing of such heads to ranks to judge.
  if (config_.model.heads % config_.model.kv_heads != 0) return;
  for (const Refusal& refusal : refusals(config_)) {
    require(false, refusal.keys, "{} [{}]", refusal.message, refusal.code);
  }
}

void Checker::optim() {
  const OptimConfig& o = config_.optim;
  const bool adamw = o.name == OptimizerChoice::adamw;
  idle(adamw, "optim.betas", "optim.name = \"adamw\"");
  idle(adamw, "optim.eps", "optim.name = \"adamw\"");
  idle(!adamw, "optim.momentum", "optim.name = \"sgd\"");
  idle(o.schedule == ScheduleChoice::linear || o.schedule == ScheduleChoice::cosine, "optim.min_lr",
       "optim.schedule = \"linear\" or \"cosine\"");
  idle(o.schedule == ScheduleChoice::onecycle, "optim.pct_start", "optim.schedule = \"onecycle\"");
  require(o.min_lr <= o.lr, {"optim.min_lr", "optim.lr"}, "optim.min_lr = {} is larger than optim.lr = {}", o.min_lr,
          o.lr);
  const Amount &warmup = o.warmup, &steps = config_.train.steps;
  require(warmup.unit != steps.unit || warmup.value <= steps.value, {"optim.warmup", "train.steps"},
          "optim.warmup = {} is longer than train.steps = {}", to_string(warmup), to_string(steps));
}

void Checker::batch() {
  TrainConfig& t = config_.train;
  if (!readable({"train.batch", "data.sequence"})) return;
  const auto count = static_cast<int64_t>(t.batch.value);
  const bool tokens = t.batch.unit == AmountUnit::tokens;
  const int64_t sequence = config_.data.sequence;
  const int64_t below = std::max(sequence, count / sequence * sequence);
  require(!tokens || count % sequence == 0, {"train.batch", "data.sequence"},
          "train.batch = {} tokens is not a multiple of data.sequence = {}; choose \"{} tokens\" or \"{} tokens\"",
          count, sequence, below, below + sequence);
  t.batch_samples = tokens ? std::max<int64_t>(1, count / sequence) : count;
  t.batch = {static_cast<double>(t.batch_samples), AmountUnit::samples};
  require(t.batch_samples < (int64_t{1} << 40) / sequence, {"train.batch", "data.sequence"},
          "train.batch = {} samples of {} tokens is more than 2^40 tokens a step", t.batch_samples, sequence);
}

void Checker::train() {
  const TrainConfig& t = config_.train;
  idle(t.recompute != RecomputeChoice::none, "train.offload", "train.recompute = \"layer\" or \"attn\"");
  const int64_t data = std::max<int64_t>(1, config_.parallel.data);
  const int64_t micro = std::max<int64_t>(1, t.micro_batch);
  require(
      t.batch_samples % (data * micro) == 0, {"train.batch", "train.micro_batch", "parallel.data"},
      "train.batch = {} samples is not a multiple of parallel.data = {} x train.micro_batch = {}; choose a multiple "
      "of {}",
      t.batch_samples, data, micro, data * micro);
}

void Checker::all() {
  kinds();
  language_keys();
  forecast_keys();
  run();
  data();
  model();
  attention();
  parallel();
  optim();
  batch();
  train();
  if (forecasts()) forecast_model();
}

}  // namespace

void finish_config(Config& config, const std::string& file_name, const std::set<std::string>& bad,
                   ConfigProblems& problems) {
  // What the planner decides later is checked by the planner; here it counts as not shared out.
  const ParallelConfig asked = config.parallel;
  ParallelConfig& p = config.parallel;
  for (int64_t* extent : {&p.ring, &p.ulysses, &p.tensor}) {
    if (*extent == kAutomaticExtent) *extent = 1;
  }
  if (p.zero == kAutomaticStage) p.zero = 0;
  Checker(config, file_name, bad, problems).all();
  config.parallel = asked;
}

std::string first_origin(const Config& config, const std::vector<std::string>& keys, const std::string& otherwise) {
  for (const std::string& key : keys)
    if (const auto found = config.origins.find(key); found != config.origins.end()) return found->second;
  return otherwise;
}

std::string divisors_text(int64_t number) {
  std::string text;
  for (int64_t d = 1; d <= number; ++d)
    if (number % d == 0) text += fmt::format("{}{}", text.empty() ? "" : ",", d);
  return text;
}

}  // namespace farsight

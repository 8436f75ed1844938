// SPDX-License-Identifier: Apache-2.0
// The typed configuration of a run. Every member is one key of the registry (config_registry.h), which holds its name,
// range and documentation; the initialisers here are the defaults. Everything that can be decided without data and
// without knowing the number of ranks is resolved when a Config is loaded ("auto" widths, units, cross-checks).
//
//   Config config = load_config("lm.toml", {"optim.lr=3e-4"});
//   RunLayout layout = resolve_layout(config, world_size);
//
// Order of precedence: default < extends < file < override. ${VAR} in a string is the environment variable.
// Errors: everything wrong is reported at once in one Error{config} (exit code 78), one line per problem:
//   lm.toml:14:1: error: unknown key 'parallel.rnig'; did you mean 'parallel.ring'?
// A file that cannot be read is Error{config} too. All functions are re-entrant and independent of the locale.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace farsight {

enum class DeviceChoice : uint8_t { automatic, cpu, cuda };
enum class TaskKind : uint8_t { lm, forecast };
enum class ModelKind : uint8_t { automatic, decoder, linear, patchtst };
enum class LinearForm : uint8_t { nlinear, dlinear };
enum class SolverChoice : uint8_t { gradient, closed_form };
enum class CovariateChoice : uint8_t { automatic, ignore };
enum class LossChoice : uint8_t { automatic, cross_entropy, mse, mae, huber, quantile, gaussian, student_t, mixture };
enum class PackChoice : uint8_t { documents, concat };
enum class MlpChoice : uint8_t { swiglu, gelu };
enum class NormChoice : uint8_t { rms, layer, batch, sync_batch };
enum class InitChoice : uint8_t { gpt };
enum class ScoreChoice : uint8_t { scaled_dot, additive };
enum class NormaliserChoice : uint8_t { softmax };
enum class PositionChoice : uint8_t { rope, learned, none };
enum class BiasChoice : uint8_t { none, alibi };
enum class BackendChoice : uint8_t { automatic, cudnn, own };
enum class OrderChoice : uint8_t { automatic, contiguous, zigzag, striped };
enum class ContextChoice : uint8_t { automatic, ring, allgather, ulysses };
enum class HeadNormChoice : uint8_t { none, rms };
enum class OptimizerChoice : uint8_t { adamw, sgd };
enum class ScheduleChoice : uint8_t { constant, linear, cosine, type1, type3, type3_onecycle, onecycle };
enum class PrecisionChoice : uint8_t { f32, bf16 };
enum class RecomputeChoice : uint8_t { none, attn, layer };
enum class OffloadChoice : uint8_t { none, activations };
enum class VerifyChoice : uint8_t { chunks, full };
enum class IoChoice : uint8_t { automatic, map, pread };

// A length of training. steps = optimizer steps, samples = sequences, tokens = input tokens of all ranks,
// epochs = passes over the training samples.
enum class AmountUnit : uint8_t { steps, samples, tokens, epochs };
struct Amount {
  double value = 0.0;  // 0 = never, for intervals
  AmountUnit unit = AmountUnit::steps;
  bool operator==(const Amount&) const = default;
};

struct RunConfig {
  std::string name;                 // default: the name of the file without its extension
  std::string dir = "runs/{name}";  // {name} already replaced
  int64_t seed = 42;
  bool deterministic = true;  // equal bits from run to run, also where a device library asks a price for it
  DeviceChoice device = DeviceChoice::automatic;
  bool cuda_graph = true;  // hand steps to a device as one CUDA graph each, where they can be
  bool operator==(const RunConfig&) const = default;
};

struct TaskConfig {
  TaskKind kind = TaskKind::lm;
  bool operator==(const TaskConfig&) const = default;
};

struct DataConfig {
  std::vector<std::string> train;        // HDF5 files, relative to the working directory
  std::vector<std::string> valid, test;  // empty: the splits of these names in the train files
  int64_t sequence = 1024;               // tokens of a sample; forecasts: tokens of one channel, resolved
  PackChoice pack = PackChoice::documents;
  bool shuffle = true;
  int64_t prefetch = 4;  // batches read ahead
  IoChoice io = IoChoice::automatic;
  bool verify_full = false;   // data.verify = "full": check the checksum of every block before training
  bool allow_change = false;  // resume with another dataset than the checkpoint's
  // Forecasts.
  int64_t lookback = 336;            // rows before the first target
  int64_t horizon = 96;              // rows to forecast
  int64_t stride = 1;                // rows between training windows
  std::vector<std::string> targets;  // channels to forecast; empty: those of role target in the file
  CovariateChoice covariates = CovariateChoice::automatic;
  std::vector<std::string> calendar;  // features of the time of a row that the model sees
  bool normalise = true;              // by the training statistics of the file
  bool operator==(const DataConfig&) const = default;
};

struct ModelConfig {
  ModelKind kind = ModelKind::automatic;  // resolved
  int64_t layers = 4;
  int64_t width = 128;
  int64_t heads = 4;
  int64_t kv_heads = 0;    // "auto" = heads; resolved
  int64_t head_width = 0;  // "auto" = width / heads; resolved
  MlpChoice mlp = MlpChoice::swiglu;
  int64_t mlp_width = 0;  // "auto": 4 width (gelu), 8/3 width rounded up to a multiple of 32 (swiglu); resolved
  NormChoice norm = NormChoice::rms;
  double norm_eps = 1e-5;
  int64_t vocab = 0;  // 0 = auto: the vocabulary of the dataset
  bool tie_embeddings = true;
  bool bias = false;
  double dropout = 0.0;  // of embeddings and residual branches
  InitChoice init = InitChoice::gpt;
  // Forecasters.
  LinearForm form = LinearForm::nlinear;  // of kind linear
  SolverChoice solver = SolverChoice::gradient;
  bool individual = false;         // kind linear: weights of its own for each channel
  int64_t patch = 16;              // rows of a token
  int64_t patch_stride = 8;        // rows between tokens
  bool instance_norm = true;       // normalise each window of each channel
  bool instance_affine = false;    // with a learned factor and offset per channel
  bool residual_attention = true;  // scores of a layer are added to those of the next
  bool operator==(const ModelConfig&) const = default;
};

inline constexpr int64_t kUnlimitedWindow = std::numeric_limits<int32_t>::max();

// "causal", "full", "window(l,r)", joined with "and". Documents are separated by data.pack = "documents".
struct MaskConfig {
  bool causal = true;
  int64_t window_left = kUnlimitedWindow;   // query position - key position <= window_left
  int64_t window_right = kUnlimitedWindow;  // key position - query position <= window_right
  bool operator==(const MaskConfig&) const = default;
};

struct AttentionConfig {
  ScoreChoice score = ScoreChoice::scaled_dot;
  NormaliserChoice norm = NormaliserChoice::softmax;
  MaskConfig mask;
  HeadNormChoice qk_norm = HeadNormChoice::none;  // of each head of q and k
  PositionChoice position = PositionChoice::rope;
  double rope_theta = 10000.0;
  BiasChoice bias = BiasChoice::none;
  double dropout = 0.0;
  double entropy_weight = 0.0;  // loss += weight * mean row entropy (nats) over layers, heads and rows
  BackendChoice backend = BackendChoice::automatic;
  bool operator==(const AttentionConfig&) const = default;
};

// [[parallel.override]]: layers that cross the context ranks in their own way.
struct ContextOverride {
  int64_t first = 0, last = 0;  // layers, both included
  ContextChoice context = ContextChoice::automatic;
  bool operator==(const ContextOverride&) const = default;
};

// "auto" of the extents and of the stage: the planner decides for a number of ranks (plan_auto.h).
inline constexpr int64_t kAutomaticExtent = 0;
inline constexpr int64_t kAutomaticStage = -1;

struct ParallelConfig {
  int64_t data = 0;  // 0 = auto: what the other axes leave
  int64_t ring = 1;
  int64_t ulysses = 1, tensor = 1, pipeline = 1;
  bool sequence_parallel = true;  // with tensor > 1: activations between blocks are sharded too
  int64_t zero = 0;               // stage
  int64_t zero_group = 0;         // ranks that share state; 0 = auto: all of data x ring x ulysses
  OrderChoice order = OrderChoice::automatic;
  int64_t stripe = 1;  // block of the striped order, tokens
  int64_t bucket_bytes = 32LL << 20;
  ContextChoice context = ContextChoice::automatic;
  std::vector<ContextOverride> overrides;  // later ones win
  int64_t gather_heads = 0;                // key heads gathered at once (context = "allgather"); 0 = all
  bool operator==(const ParallelConfig&) const = default;
};

struct OptimConfig {
  OptimizerChoice name = OptimizerChoice::adamw;
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double momentum = 0.0;  // sgd
  double weight_decay = 0.1;
  double clip = 1.0;  // global gradient norm; 0 = off
  ScheduleChoice schedule = ScheduleChoice::cosine;
  Amount warmup{0.0, AmountUnit::steps};
  double min_lr = 0.0;     // where linear and cosine end
  double pct_start = 0.3;  // onecycle: share of the run in which the rate rises
  bool operator==(const OptimConfig&) const = default;
};

struct LossConfig {
  LossChoice kind = LossChoice::automatic;                                                // resolved
  std::vector<double> levels{0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975};  // quantile
  double delta = 1.0;                                                                     // huber
  std::vector<std::string> components{"gaussian", "student_t"};                           // mixture
  bool operator==(const LossConfig&) const = default;
};

struct TrainConfig {
  Amount steps{1000.0, AmountUnit::steps};
  Amount batch{16.0, AmountUnit::samples};  // given in samples or tokens; resolved to samples
  int64_t batch_samples = 16;               // the same as an integer: sequences per optimizer step over all ranks
  int64_t micro_batch = 0;                  // samples per data rank and pass; 0 = auto (resolve_layout)
  PrecisionChoice precision = PrecisionChoice::f32;
  RecomputeChoice recompute = RecomputeChoice::none;
  OffloadChoice offload = OffloadChoice::none;
  double label_smoothing = 0.0;
  double time_limit_s = 0.0;  // 0 = none
  double grace_s = 20.0;      // time to save after SIGTERM
  int64_t loss_chunk = 0;     // rows of logits held at once; 0 = auto
  int64_t mlp_chunk = 0;      // rows of the MLP computed at once; 0 = all
  int64_t patience = 0;       // evaluations without a better loss before training ends; 0 = off
  bool operator==(const TrainConfig&) const = default;
};

struct EvalConfig {
  Amount every{200.0, AmountUnit::steps};
  int64_t batches = 0;          // batches of train.batch samples; 0 = all
  std::string prompt;           // text to continue after each evaluation; empty = none
  int64_t sample_tokens = 128;  // length of that continuation
  int64_t season = 0;           // forecasts: rows of a season; 0 = auto: by the frequency of the data
  bool operator==(const EvalConfig&) const = default;
};

struct CheckpointConfig {
  Amount every{500.0, AmountUnit::steps};
  int64_t keep = 3;        // newest checkpoints kept
  int64_t keep_every = 0;  // also keep steps that are multiples of this; 0 = none
  bool async = true;
  int64_t chunk_bytes = 4LL << 20;
  VerifyChoice verify = VerifyChoice::chunks;  // how much of a checkpoint is checked before it is loaded
  int64_t fail_limit = 3;                      // failed saves in a row before the run ends with 74
  double lock_wait_s = 360.0;                  // how long to wait for a run directory in use
  bool operator==(const CheckpointConfig&) const = default;
};

struct LogConfig {
  Amount every{10.0, AmountUnit::steps};
  bool operator==(const LogConfig&) const = default;
};

struct GuardConfig {
  double watchdog_s = 300.0;    // limit of one step without progress; 0 = off
  int64_t nonfinite_limit = 5;  // skipped steps in a row before the run ends with 76
  int64_t replica_check = 100;  // steps between comparisons of replicated weights; 0 = off
  bool operator==(const GuardConfig&) const = default;
};

struct Config {
  RunConfig run;
  TaskConfig task;
  DataConfig data;
  ModelConfig model;
  AttentionConfig attention;
  ParallelConfig parallel;
  OptimConfig optim;
  LossConfig loss;
  TrainConfig train;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  LogConfig log;
  GuardConfig guard;

  // Where each key that is not a default was set: "lm.toml:13:10" or "command line". Not part of the value.
  std::map<std::string, std::string> origins;
  std::string input;  // the file as given, overrides added as comments: config.input.toml of the run directory

  // Equal values, wherever they come from.
  bool operator==(const Config& other) const;
};

// Reads CONFIG with its bases and applies overrides of the form "section.key=value" (no leading dashes).
Config load_config(const std::string& path, const std::vector<std::string>& overrides = {});
// The same from text; file_name is for messages, and `extends` is relative to its folder.
Config parse_config(std::string_view text, const std::string& file_name,
                    const std::vector<std::string>& overrides = {});

// What a configuration is before any key is set. Forecasters have other defaults than language models.
Config default_config(TaskKind task, ModelKind kind);

// Every key with its effective value as TOML; parse_config(to_toml(c)) == c.
std::string to_toml(const Config& config);
// XXH3-64 of to_toml(config): equal configurations have equal hashes.
uint64_t config_hash(const Config& config);

// What the model and the loop need on a number of ranks.
struct RunLayout {
  int64_t world = 1;
  int64_t data = 1, ring = 1, ulysses = 1, tensor = 1, pipeline = 1;
  OrderChoice order = OrderChoice::contiguous;  // never automatic
  int64_t stripe = 1;
  int64_t key_replicas = 1;  // tensor ranks that hold the same key head
  int64_t zero_group = 1;
  int64_t micro_batch = 1;                            // samples per data rank and pass
  int64_t passes = 1;                                 // micro-batches per optimizer step and data rank
  int64_t context() const { return ring * ulysses; }  // ranks that share a sequence
  bool operator==(const RunLayout&) const = default;
};
// Whether parallel.ring, ulysses, tensor or zero are "auto".
bool has_automatic_layout(const Config& config);
// Error{config} listing the legal layouts when the ranks do not match, or when has_automatic_layout.
RunLayout resolve_layout(const Config& config, int64_t world_size);

// Length of `amount` in optimizer steps, rounded up; epoch_samples = training samples of one epoch.
int64_t amount_in_steps(const Amount& amount, const Config& config, int64_t epoch_samples);
std::string to_string(const Amount& amount);

// What to do about a key that differs between a checkpoint and the configuration of the resuming run.
enum class ChangeClass : uint8_t {
  must_match,  // another model, data order or optimizer: refuse (78)
  warn,        // the configuration wins, and the message says so (learning rate, betas ...)
  may_change   // layout, logging, limits
};
struct ConfigDifference {
  std::string key, before, after;  // values as TOML
  ChangeClass change;
};
std::vector<ConfigDifference> config_differences(const Config& saved, const Config& now);
// Throws Error{config} naming every must_match difference; returns one line per `warn` difference.
std::vector<std::string> check_resume_config(const Config& saved, const Config& now);

const char* to_string(OrderChoice order);
const char* to_string(ContextChoice context);
// How each layer crosses the context ranks, overrides applied.
std::vector<ContextChoice> context_of_layers(const Config& config);

}  // namespace farsight

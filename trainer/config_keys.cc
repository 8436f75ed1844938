// SPDX-License-Identifier: Apache-2.0
// The registry itself. Adding a key = a member in config.h, one entry here, and the code that obeys it.
#include <algorithm>
#include <array>

#include "trainer/command_line.h"
#include "trainer/config_fields.h"
#include "trainer/config_override.h"

namespace farsight {
namespace {

using namespace config_fields;
constexpr auto kArchitecture = ChangeClass::must_match;
constexpr auto kWarn = ChangeClass::warn;
constexpr auto kFree = ChangeClass::may_change;
constexpr int64_t kMillion = 1000000;

struct Section {
  const char* name;
  const char* doc;
};
constexpr std::array<Section, 13> kSections{{{"run", "name, place and seed of the run"},
                                             {"task", "what is trained"},
                                             {"data", "datasets and how samples are cut from them"},
                                             {"model", "architecture"},
                                             {"attention", "the attention operator of every layer"},
                                             {"parallel", "how ranks share the work"},
                                             {"optim", "optimizer and learning rate"},
                                             {"loss", "what is minimised"},
                                             {"train", "length, batch, precision, memory"},
                                             {"eval", "evaluation and sample text during training"},
                                             {"checkpoint", "saving and loading"},
                                             {"log", "what is reported"},
                                             {"guard", "run-time checks"}}};

ConfigKey describe(ConfigKey key, ChangeClass change, std::string example, std::string doc) {
  key.change = change;
  key.example = std::move(example);
  key.doc = std::move(doc);
  return key;
}

// An axis or stage of the specification of which only one value is built.
template <typename S>
ConfigKey fixed(std::string name, Member<S, int64_t> where, int64_t built) {
  ConfigKey key = integer(std::move(name), where, {.low = built, .high = built});
  key.range = fmt::format("{} in this build", built);
  key.assign = [built](Config&, const ConfigValue& value) -> std::string {
    if (value.kind == ConfigValue::Kind::integer && value.integer == built) return "";
    return fmt::format("= {} is not in this build; available: {}", to_string(value), built);
  };
  return key;
}

std::vector<ConfigKey> run_keys() {
  const auto s = &Config::run;
  using C = RunConfig;
  return {describe(text("run.name", member(s, &C::name)), kFree, "\"shakespeare\"",
                   "name of the run; default: the name of the configuration file"),
          describe(text("run.dir", member(s, &C::dir)), kFree, "\"runs/{name}\"",
                   "run directory; {name} is replaced by run.name"),
          describe(integer("run.seed", member(s, &C::seed), {.low = 0}), kArchitecture, "42",
                   "seed of initial weights, data order and dropout"),
          describe(boolean("run.deterministic", member(s, &C::deterministic)), kFree, "true",
                   "same layout, same bits; false lets cuDNN add attention gradients in any order, which is faster and "
                   "takes less memory on CUDA devices"),
          describe(choice<C, DeviceChoice>(
                       "run.device", member(s, &C::device),
                       {{"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}}),
                   kFree, "\"auto\"",
                   "device that computes; auto = a CUDA device for each rank where there are some, else the CPU"),
          describe(boolean("run.cuda_graph", member(s, &C::cuda_graph)), kFree, "true",
                   "one rank on a CUDA device: each training step is handed over as one CUDA graph, which saves the "
                   "device waiting for launches; same numbers")};
}

std::vector<ConfigKey> task_keys() {
  return {describe(choice<TaskConfig, TaskKind>("task.kind", member(&Config::task, &TaskConfig::kind),
                                                {{"lm", TaskKind::lm}, {"forecast", TaskKind::forecast}},
                                                {"seq2seq", "classify", "pointer"}),
                   kArchitecture, "\"lm\"",
                   "lm = predict the next token; forecast = predict the next rows of time series")};
}

std::vector<ConfigKey> data_keys() {
  const auto s = &Config::data;
  using C = DataConfig;
  ConfigKey verify = choice<C, bool>("data.verify", member(s, &C::verify_full), {{"size", false}, {"full", true}});
  ConfigKey shuffle = boolean("data.shuffle", member(s, &C::shuffle));
  shuffle.not_built = {"blocks"};
  shuffle.assign = [typed = shuffle.assign](Config& config, const ConfigValue& value) -> std::string {
    const bool blocks = value.kind == ConfigValue::Kind::text && value.text == "blocks";
    return blocks ? "= \"blocks\" is not in this build; available: true, false" : typed(config, value);
  };
  return {
      describe(texts("data.train", member(s, &C::train)), kWarn, "[\"corpus.h5\"]",
               "HDF5 files to train on, from `farsight data`"),
      describe(texts("data.valid", member(s, &C::valid)), kFree, "[\"other.h5\"]",
               "files to evaluate on; empty: the split 'valid' of the train files"),
      describe(texts("data.test", member(s, &C::test)), kFree, "[\"other.h5\"]",
               "files for the final test; empty: the split 'test' of the train files"),
      describe(integer("data.sequence", member(s, &C::sequence), {.low = 2, .high = (int64_t{1} << 31) - 1}),
               kArchitecture, "4096", "tokens of a sample, over all ranks that share it"),
      describe(choice<C, PackChoice>("data.pack", member(s, &C::pack),
                                     {{"documents", PackChoice::documents}, {"concat", PackChoice::concat}}, {"whole"}),
               kArchitecture, "\"documents\"",
               "documents: attention and targets stay inside a document; concat: they run on"),
      describe(std::move(shuffle), kArchitecture, "true", "visit samples in a keyed random order, or in file order"),
      describe(integer("data.prefetch", member(s, &C::prefetch), {.low = 1, .high = 1024}), kFree, "4",
               "optimizer steps read ahead"),
      describe(choice<C, IoChoice>("data.io", member(s, &C::io),
                                   {{"auto", IoChoice::automatic}, {"map", IoChoice::map}, {"pread", IoChoice::pread}}),
               kFree, "\"auto\"", "how plain arrays are read: mapped, or with pread (network file systems)"),
      describe(std::move(verify), kFree, "\"full\"",
               "size: size and identity of each file; full: the checksum of every block before training"),
      describe(boolean("data.allow_change", member(s, &C::allow_change)), kFree, "false",
               "resume although the dataset is another one than the checkpoint's"),
      describe(integer("data.lookback", member(s, &C::lookback), {.low = 1, .high = int64_t{1} << 30}), kArchitecture,
               "336", "forecast: rows that a forecast is made from"),
      describe(integer("data.horizon", member(s, &C::horizon), {.low = 1, .high = int64_t{1} << 24}), kArchitecture,
               "96", "forecast: rows to forecast"),
      describe(integer("data.stride", member(s, &C::stride), {.low = 1, .high = int64_t{1} << 30}), kArchitecture, "1",
               "forecast: rows between training windows; evaluation takes every window"),
      describe(texts("data.targets", member(s, &C::targets)), kArchitecture, "[\"OT\"]",
               "forecast: channels to forecast; empty: those of role target in the file"),
      describe(choice<C, CovariateChoice>("data.covariates", member(s, &C::covariates),
                                          {{"auto", CovariateChoice::automatic}, {"ignore", CovariateChoice::ignore}}),
               kArchitecture, "\"auto\"",
               "forecast: channels that are not targets; auto: the model sees them, and one that cannot is an error"),
      describe(texts("data.calendar", member(s, &C::calendar)), kArchitecture, "[\"hour\", \"weekday\"]",
               "forecast: features of the time of each row that the model sees: hour, weekday, day, yearday, minute"),
      describe(choice<C, bool>("data.normalise", member(s, &C::normalise), {{"dataset", true}, {"none", false}}),
               kArchitecture, "\"dataset\"", "forecast: scale channels by the training statistics in the file")};
}

std::vector<ConfigKey> model_keys() {
  const auto s = &Config::model;
  using C = ModelConfig;
  const auto size = [&](const char* name, int64_t C::*field, int64_t high, const char* automatic = nullptr) {
    return integer(name, member(s, field), {.low = 1, .high = high, .automatic = automatic});
  };
  return {
      describe(choice<C, ModelKind>("model.kind", member(s, &C::kind),
                                    {{"auto", ModelKind::automatic},
                                     {"decoder", ModelKind::decoder},
                                     {"linear", ModelKind::linear},
                                     {"patchtst", ModelKind::patchtst}},
                                    {"itransformer", "timer", "timexer", "informer", "autoformer"}),
               kArchitecture, "\"patchtst\"", "auto: decoder for task.kind = \"lm\", patchtst for \"forecast\""),
      describe(size("model.layers", &C::layers, 100000), kArchitecture, "12", "number of blocks"),
      describe(size("model.width", &C::width, kMillion), kArchitecture, "768", "width of the residual stream"),
      describe(size("model.heads", &C::heads, 65536), kArchitecture, "12", "query heads"),
      describe(size("model.kv_heads", &C::kv_heads, 65536, "auto"), kArchitecture, "4",
               "key/value heads, a divisor of heads; auto = heads"),
      describe(size("model.head_width", &C::head_width, 65536, "auto"), kArchitecture, "64",
               "width of a head; auto = width / heads"),
      describe(choice<C, MlpChoice>("model.mlp", member(s, &C::mlp),
                                    {{"swiglu", MlpChoice::swiglu}, {"gelu", MlpChoice::gelu}}, {"moe"}),
               kArchitecture, "\"swiglu\"", "swiglu: gated, three matrices; gelu: two matrices"),
      describe(size("model.mlp_width", &C::mlp_width, 4 * kMillion, "auto"), kArchitecture, "3072",
               "hidden width of the MLP; auto = 4 width (gelu), 8/3 width rounded up to a multiple of 32 (swiglu)"),
      describe(choice<C, NormChoice>("model.norm", member(s, &C::norm),
                                     {{"rms", NormChoice::rms},
                                      {"layer", NormChoice::layer},
                                      {"batch", NormChoice::batch},
                                      {"sync_batch", NormChoice::sync_batch}}),
               kArchitecture, "\"rms\"",
               "root mean square norm, layer norm, or (patchtst) batch norm over one rank or over all"),
      describe(number("model.norm_eps", member(s, &C::norm_eps), {.low = 0.0, .high = 1.0, .above_low = true}),
               kArchitecture, "1e-5", "added to the mean square inside the root"),
      describe(size("model.vocab", &C::vocab, (int64_t{1} << 31) - 1, "auto"), kArchitecture, "50257",
               "vocabulary; auto = that of the dataset"),
      describe(boolean("model.tie_embeddings", member(s, &C::tie_embeddings)), kArchitecture, "true",
               "embedding and output projection share one matrix"),
      describe(boolean("model.bias", member(s, &C::bias)), kArchitecture, "false", "biases in linear layers and norms"),
      describe(number("model.dropout", member(s, &C::dropout), {.low = 0.0, .high = 1.0, .below_high = true}), kWarn,
               "0.1", "dropout of embeddings and residual branches"),
      describe(choice<C, InitChoice>("model.init", member(s, &C::init), {{"gpt", InitChoice::gpt}}), kArchitecture,
               "\"gpt\"", "normal with sigma 0.02; 0.02 / sqrt(2 layers) into the residual stream"),
      describe(choice<C, LinearForm>("model.form", member(s, &C::form),
                                     {{"nlinear", LinearForm::nlinear}, {"dlinear", LinearForm::dlinear}}),
               kArchitecture, "\"dlinear\"",
               "linear: nlinear subtracts the last value and adds it again; dlinear has one map for the trend and one "
               "for the rest"),
      describe(
          choice<C, SolverChoice>("model.solver", member(s, &C::solver),
                                  {{"gradient", SolverChoice::gradient}, {"closed_form", SolverChoice::closed_form}}),
          kArchitecture, "\"closed_form\"",
          "linear: trained step by step, or the least-squares solution at once (form = \"nlinear\")"),
      describe(boolean("model.individual", member(s, &C::individual)), kArchitecture, "false",
               "linear: each channel has weights of its own"),
      describe(size("model.patch", &C::patch, kMillion), kArchitecture, "16", "patchtst: rows of a token"),
      describe(size("model.patch_stride", &C::patch_stride, kMillion), kArchitecture, "8",
               "patchtst: rows between tokens"),
      describe(boolean("model.instance_norm", member(s, &C::instance_norm)), kArchitecture, "true",
               "forecasters: normalise each window of each channel, and undo it behind the model"),
      describe(boolean("model.instance_affine", member(s, &C::instance_affine)), kArchitecture, "false",
               "forecasters: a learned factor and offset of each channel behind instance_norm"),
      describe(boolean("model.residual_attention", member(s, &C::residual_attention)), kArchitecture, "true",
               "patchtst: attention scores of a layer are added to those of the next (at most 1024 tokens)")};
}

ConfigKey mask_key() {
  ConfigKey key = bind(
      "attention.mask", member(&Config::attention, &AttentionConfig::mask),
      [](const ConfigValue& value, std::string& error) -> std::optional<MaskConfig> {
        std::string reason;
        const std::string expression = value.kind == ConfigValue::Kind::text ? value.text : "";
        auto mask = parse_mask(expression, reason);
        if (!mask)
          error = fmt::format("is {}; {}; needed: causal, full or window(left,right), joined with 'and'",
                              to_string(value), reason);
        return mask;
      },
      [](const MaskConfig& mask) { return quote(format_mask(mask)); });
  key.type = "causal | full | window(left,right), joined with \"and\"";
  return key;
}

std::vector<ConfigKey> attention_keys() {
  const auto s = &Config::attention;
  using C = AttentionConfig;
  return {
      describe(choice<C, ScoreChoice>("attention.score", member(s, &C::score),
                                      {{"scaled_dot", ScoreChoice::scaled_dot}, {"additive", ScoreChoice::additive}},
                                      {"dot", "general", "cosine", "qk_norm", "txl"}),
               kArchitecture, "\"scaled_dot\"", "scaled_dot: q.k / sqrt(head_width); additive: y.tanh(a + b)"),
      describe(
          choice<C, NormaliserChoice>("attention.norm", member(s, &C::norm), {{"softmax", NormaliserChoice::softmax}},
                                      {"entmax", "topk", "hard", "gumbel_st"}),
          kArchitecture, "\"softmax\"", "how scores become weights"),
      describe(mask_key(), kArchitecture, "\"causal and window(1024,0)\"",
               "which keys a query sees; window(left,right) counts tokens before and after it"),
      describe(choice<C, HeadNormChoice>("attention.qk_norm", member(s, &C::qk_norm),
                                         {{"none", HeadNormChoice::none}, {"rms", HeadNormChoice::rms}}, {"l2"}),
               kArchitecture, "\"rms\"", "norm of each head of q and k before the score"),
      describe(
          choice<C, PositionChoice>(
              "attention.position", member(s, &C::position),
              {{"rope", PositionChoice::rope}, {"learned", PositionChoice::learned}, {"none", PositionChoice::none}}),
          kArchitecture, "\"rope\"", "how positions enter: rotation of q and k, a learned table, or not at all"),
      describe(number("attention.rope_theta", member(s, &C::rope_theta), {.low = 1.0, .above_low = true}),
               kArchitecture, "500000.0", "base of the rotation wavelengths (position = \"rope\")"),
      describe(choice<C, BiasChoice>("attention.bias", member(s, &C::bias),
                                     {{"none", BiasChoice::none}, {"alibi", BiasChoice::alibi}}, {"t5", "table"}),
               kArchitecture, "\"alibi\"", "alibi: score - slope * distance, slope 2^(-8h/heads)"),
      describe(number("attention.dropout", member(s, &C::dropout), {.low = 0.0, .high = 1.0, .below_high = true}),
               kWarn, "0.1", "dropout of the attention weights"),
      describe(number("attention.entropy_weight", member(s, &C::entropy_weight), {.low = -1e6, .high = 1e6}), kWarn,
               "0.01", "loss += weight * mean row entropy in nats; positive favours sharp attention, 0 = off"),
      describe(choice<C, BackendChoice>(
                   "attention.backend", member(s, &C::backend),
                   {{"auto", BackendChoice::automatic}, {"cudnn", BackendChoice::cudnn}, {"own", BackendChoice::own}},
                   {"generic"}),
               kFree, "\"auto\"",
               "kernels that compute attention on CUDA devices; auto = cuDNN for what it can, else own tile kernels; "
               "cudnn = an error for what it cannot")};
}

std::vector<ConfigKey> parallel_keys() {
  const auto s = &Config::parallel;
  using C = ParallelConfig;
  return {
      describe(integer("parallel.data", member(s, &C::data), {.low = 1, .high = kMillion, .automatic = "auto"}), kFree,
               "2", "ranks that take different samples; auto = what the other axes leave"),
      describe(integer("parallel.ring", member(s, &C::ring), {.low = 1, .high = kMillion, .automatic = "auto"}), kFree,
               "2", "ranks that share one sequence, keys and values travelling around; auto = the planner's choice"),
      describe(integer("parallel.ulysses", member(s, &C::ulysses), {.low = 1, .high = kMillion, .automatic = "auto"}),
               kFree, "2", "ranks that share one sequence, heads dealt out by all-to-all; at most heads / tensor"),
      describe(integer("parallel.tensor", member(s, &C::tensor), {.low = 1, .high = kMillion, .automatic = "auto"}),
               kFree, "2", "ranks that share each weight matrix; at most the number of heads"),
      describe(fixed("parallel.pipeline", member(s, &C::pipeline), 1), kFree, "1", "ranks that share layers"),
      describe(boolean("parallel.sequence_parallel", member(s, &C::sequence_parallel)), kFree, "true",
               "with tensor > 1: norms, residuals and dropout act on a share of the tokens"),
      describe(integer("parallel.zero", member(s, &C::zero),
                       {.low = 0, .high = 3, .automatic = "auto", .automatic_value = kAutomaticStage}),
               kFree, "1",
               "what ranks with equal weights share out: 1 optimizer state, 2 gradients too, 3 weights too"),
      describe(
          integer("parallel.zero_group", member(s, &C::zero_group), {.low = 1, .high = kMillion, .automatic = "auto"}),
          kFree, "8", "ranks that share state among them (zero > 0); auto = data x ring x ulysses"),
      describe(choice<C, OrderChoice>("parallel.order", member(s, &C::order),
                                      {{"auto", OrderChoice::automatic},
                                       {"contiguous", OrderChoice::contiguous},
                                       {"zigzag", OrderChoice::zigzag},
                                       {"striped", OrderChoice::striped}}),
               kFree, "\"zigzag\"", "which tokens of a sequence a ring rank holds; auto balances the mask"),
      describe(integer("parallel.stripe", member(s, &C::stripe), {.low = 1, .high = int64_t{1} << 30}), kFree, "16",
               "tokens of a stripe (order = \"striped\" or \"auto\")"),
      describe(bytes("parallel.bucket", member(s, &C::bucket_bytes), 4096), kFree, "\"32MiB\"",
               "gradient bytes reduced together while backward runs"),
      describe(choice<C, ContextChoice>("parallel.context", member(s, &C::context),
                                        {{"auto", ContextChoice::automatic},
                                         {"ring", ContextChoice::ring},
                                         {"allgather", ContextChoice::allgather},
                                         {"ulysses", ContextChoice::ulysses}}),
               kFree, "\"allgather\"",
               "how attention crosses the ranks of a sequence; auto: all-to-all over ulysses, ring over ring"),
      context_override_key(),
      describe(integer("parallel.gather_heads", member(s, &C::gather_heads),
                       {.low = 1, .high = kMillion, .automatic = "all"}),
               kFree, "1", "key heads gathered at once (context = \"allgather\")")};
}

ConfigKey betas_key() {
  ConfigKey key;
  key.name = "optim.betas";
  key.type = "two numbers";
  key.range = ">= 0 and < 1";
  key.assign = [](Config& config, const ConfigValue& value) -> std::string {
    std::string error;
    const NumberRange range{.low = 0.0, .high = 1.0, .below_high = true};
    const bool pair = value.kind == ConfigValue::Kind::list && value.list.size() == 2;
    const auto first = pair ? read_number(value.list[0], range, error) : std::nullopt;
    const auto second = pair ? read_number(value.list[1], range, error) : std::nullopt;
    if (!first || !second)
      return fmt::format("is {}; needed: two numbers >= 0 and < 1, for example [0.9, 0.95]", to_string(value));
    config.optim.beta1 = *first;
    config.optim.beta2 = *second;
    return "";
  };
  key.print = [](const Config& config) {
    return fmt::format("[{}, {}]", format_real(config.optim.beta1), format_real(config.optim.beta2));
  };
  return key;
}

std::vector<ConfigKey> optim_keys() {
  const auto s = &Config::optim;
  using C = OptimConfig;
  return {
      describe(choice<C, OptimizerChoice>("optim.name", member(s, &C::name),
                                          {{"adamw", OptimizerChoice::adamw}, {"sgd", OptimizerChoice::sgd}}),
               kArchitecture, "\"adamw\"", "optimizer"),
      describe(number("optim.lr", member(s, &C::lr), {.low = 0.0, .above_low = true}), kWarn, "3e-4",
               "highest learning rate"),
      describe(betas_key(), kWarn, "[0.9, 0.95]", "decay of the two moments (adamw)"),
      describe(number("optim.eps", member(s, &C::eps), {.low = 0.0, .above_low = true}), kWarn, "1e-8",
               "added to the root of the second moment (adamw)"),
      describe(number("optim.momentum", member(s, &C::momentum), {.low = 0.0, .high = 1.0, .below_high = true}), kWarn,
               "0.9", "momentum (sgd)"),
      describe(number("optim.weight_decay", member(s, &C::weight_decay), {.low = 0.0}), kWarn, "0.1",
               "decoupled weight decay of tensors with two or more dimensions"),
      describe(number("optim.clip", member(s, &C::clip), {.low = 0.0}), kWarn, "1.0",
               "largest global gradient norm; 0 = no clipping"),
      describe(choice<C, ScheduleChoice>("optim.schedule", member(s, &C::schedule),
                                         {{"constant", ScheduleChoice::constant},
                                          {"linear", ScheduleChoice::linear},
                                          {"cosine", ScheduleChoice::cosine},
                                          {"type1", ScheduleChoice::type1},
                                          {"type3", ScheduleChoice::type3},
                                          {"type3_onecycle", ScheduleChoice::type3_onecycle},
                                          {"onecycle", ScheduleChoice::onecycle}}),
               kWarn, "\"cosine\"",
               "course of the learning rate after the warm-up, until train.steps; by epochs: type1 halves it in each, "
               "type3 takes 0.9 of it in each from the third on (type3_onecycle: lr / 25 in the first); onecycle "
               "rises from lr / 25 and falls to almost 0"),
      describe(amount("optim.warmup", member(s, &C::warmup), /*allow_zero=*/true), kWarn, "\"100 steps\"",
               "linear rise of the learning rate from 0"),
      describe(number("optim.min_lr", member(s, &C::min_lr), {.low = 0.0}), kWarn, "1e-4",
               "where linear and cosine end"),
      describe(number("optim.pct_start", member(s, &C::pct_start),
                      {.low = 0.0, .high = 1.0, .above_low = true, .below_high = true}),
               kWarn, "0.3", "share of the run in which the rate rises (onecycle)")};
}

ConfigKey levels_key() {
  ConfigKey key;
  key.name = "loss.levels";
  key.type = "list of numbers";
  key.range = "> 0 and < 1, rising";
  key.assign = [](Config& config, const ConfigValue& value) -> std::string {
    std::vector<double> levels;
    bool good = value.kind == ConfigValue::Kind::list && !value.list.empty();
    for (const ConfigValue& item : value.list) {
      std::string error;
      const auto level = read_number(item, {.low = 0.0, .high = 1.0, .above_low = true, .below_high = true}, error);
      good = good && level && (levels.empty() || *level > levels.back());
      levels.push_back(level.value_or(0.0));
    }
    constexpr size_t kMost = 64;
    if (!good || levels.size() > kMost)
      return fmt::format("is {}; needed: up to {} rising numbers > 0 and < 1, for example [0.1, 0.5, 0.9]",
                         to_string(value), kMost);
    config.loss.levels = levels;
    return "";
  };
  key.print = [](const Config& config) {
    std::string text;
    for (const double level : config.loss.levels) text += (text.empty() ? "" : ", ") + format_real(level);
    return "[" + text + "]";
  };
  return key;
}

std::vector<ConfigKey> loss_keys() {
  const auto s = &Config::loss;
  using C = LossConfig;
  return {
      describe(choice<C, LossChoice>("loss.kind", member(s, &C::kind),
                                     {{"auto", LossChoice::automatic},
                                      {"cross_entropy", LossChoice::cross_entropy},
                                      {"mse", LossChoice::mse},
                                      {"mae", LossChoice::mae},
                                      {"huber", LossChoice::huber},
                                      {"quantile", LossChoice::quantile},
                                      {"gaussian", LossChoice::gaussian},
                                      {"student_t", LossChoice::student_t},
                                      {"mixture", LossChoice::mixture}}),
               kArchitecture, "\"quantile\"",
               "auto: cross_entropy for task.kind = \"lm\", mse for \"forecast\"; quantile, gaussian, student_t and "
               "mixture give intervals"),
      describe(levels_key(), kArchitecture, "[0.1, 0.5, 0.9]", "quantiles that are forecast (quantile)"),
      describe(number("loss.delta", member(s, &C::delta), {.low = 0.0, .above_low = true}), kWarn, "1.0",
               "error beyond which the loss is linear, in units of the normalised channel (huber)"),
      describe(texts("loss.components", member(s, &C::components)), kArchitecture, "[\"student_t\", \"fixed:0.1\"]",
               "gaussian, student_t, fixed:SCALE: what a mixture consists of (mixture)")};
}

std::vector<ConfigKey> train_keys() {
  const auto s = &Config::train;
  using C = TrainConfig;
  ConfigKey batch = bind(
      "train.batch", member(s, &C::batch),
      [](const ConfigValue& value, std::string& error) -> std::optional<Amount> {
        const auto amount = value.kind == ConfigValue::Kind::text ? parse_amount(value.text) : std::nullopt;
        const bool counts = amount && (amount->unit == AmountUnit::samples || amount->unit == AmountUnit::tokens);
        if (counts && amount->value >= 1.0) return amount;
        error = fmt::format("is {}; needed: \"N samples\" or \"N tokens\"", to_string(value));
        return std::nullopt;
      },
      [](const Amount& v) { return quote(to_string(v)); });
  batch.type = "samples or tokens";
  batch.range = ">= 1";
  return {
      describe(amount("train.steps", member(s, &C::steps), /*allow_zero=*/false), kWarn, "\"2000 steps\"",
               "length of the run"),
      describe(std::move(batch), kWarn, "\"16384 tokens\"",
               "size of an optimizer step over all ranks; tokens must be a multiple of data.sequence"),
      describe(
          integer("train.micro_batch", member(s, &C::micro_batch), {.low = 1, .high = kMillion, .automatic = "auto"}),
          kFree, "4", "samples per data rank and pass; auto = about 8192 tokens of a rank"),
      describe(
          choice<C, PrecisionChoice>("train.precision", member(s, &C::precision),
                                     {{"f32", PrecisionChoice::f32}, {"bf16", PrecisionChoice::bf16}}, {"f16", "fp8"}),
          kFree, "\"bf16\"",
          "number format of weights and activations; bf16 (CUDA devices only) sums in fp32 and keeps fp32 master "
          "weights, gradients and optimizer state"),
      describe(
          choice<C, RecomputeChoice>(
              "train.recompute", member(s, &C::recompute),
              {{"none", RecomputeChoice::none}, {"attn", RecomputeChoice::attn}, {"layer", RecomputeChoice::layer}}),
          kFree, "\"attn\"",
          "layer: keep only the input of each block and repeat its forward pass; attn: keep the result of its "
          "attention too, and do not repeat that"),
      describe(choice<C, OffloadChoice>("train.offload", member(s, &C::offload),
                                        {{"none", OffloadChoice::none}, {"activations", OffloadChoice::activations}}),
               kFree, "\"activations\"",
               "activations: inputs of recomputed blocks wait in host memory (on the CPU they are there already)"),
      describe(number("train.label_smoothing", member(s, &C::label_smoothing),
                      {.low = 0.0, .high = 1.0, .below_high = true}),
               kWarn, "0.1", "share of the target spread evenly over the vocabulary; evaluations do without"),
      describe(duration("train.time_limit", member(s, &C::time_limit_s)), kFree, "\"23h30m\"",
               "stop with a checkpoint (exit 85) before this much time has passed; 0s = no limit"),
      describe(duration("train.grace", member(s, &C::grace_s)), kFree, "\"20s\"",
               "time for a last checkpoint after SIGTERM"),
      describe(integer("train.loss_chunk", member(s, &C::loss_chunk),
                       {.low = 1, .high = int64_t{1} << 31, .automatic = "auto"}),
               kFree, "512", "rows of logits held at once; auto = about 64 MiB of logits"),
      describe(integer("train.mlp_chunk", member(s, &C::mlp_chunk),
                       {.low = 1, .high = int64_t{1} << 31, .automatic = "off"}),
               kFree, "2048", "tokens whose MLP is computed at once, and again in backward; off = all, kept"),
      describe(integer("train.patience", member(s, &C::patience), {.low = 0, .high = kMillion}), kFree, "10",
               "end after this many evaluations in a row without a better loss on the validation split; 0 = never")};
}

std::vector<ConfigKey> eval_keys() {
  const auto s = &Config::eval;
  using C = EvalConfig;
  return {describe(amount("eval.every", member(s, &C::every), /*allow_zero=*/true), kFree, "\"200 steps\"",
                   "time between evaluations"),
          describe(integer("eval.batches", member(s, &C::batches),
                           {.low = 1, .high = kMillion * kMillion, .automatic = "all"}),
                   kFree, "50", "batches of train.batch samples per evaluation"),
          describe(text("eval.prompt", member(s, &C::prompt)), kFree, "\"ROMEO:\"",
                   "text to continue after each evaluation; empty = none"),
          describe(integer("eval.sample_tokens", member(s, &C::sample_tokens), {.low = 1, .high = kMillion}), kFree,
                   "128", "tokens of that continuation"),
          describe(integer("eval.season", member(s, &C::season), {.low = 1, .high = kMillion, .automatic = "auto"}),
                   kFree, "24",
                   "forecast: rows of a season, for seasonal-naive forecasts and MASE; auto = by the frequency of the "
                   "data")};
}

std::vector<ConfigKey> checkpoint_keys() {
  const auto s = &Config::checkpoint;
  using C = CheckpointConfig;
  return {describe(amount("checkpoint.every", member(s, &C::every), /*allow_zero=*/true), kFree, "\"500 steps\"",
                   "time between checkpoints; the end of the run is always saved"),
          describe(integer("checkpoint.keep", member(s, &C::keep), {.low = 1, .high = kMillion}), kFree, "3",
                   "newest checkpoints kept"),
          describe(integer("checkpoint.keep_every", member(s, &C::keep_every), {.low = 0}), kFree, "5000",
                   "also keep steps that are multiples of this; 0 = none"),
          describe(boolean("checkpoint.async", member(s, &C::async)), kFree, "true",
                   "write in the background while training goes on"),
          describe(bytes("checkpoint.chunk", member(s, &C::chunk_bytes), 65536), kFree, "\"4MiB\"",
                   "bytes under one checksum"),
          describe(choice<C, VerifyChoice>("checkpoint.verify", member(s, &C::verify),
                                           {{"chunks", VerifyChoice::chunks}, {"full", VerifyChoice::full}}),
                   kFree, "\"chunks\"", "chunks: all that is read; full: every byte of it first, by rank 0"),
          describe(integer("checkpoint.fail_limit", member(s, &C::fail_limit), {.low = 1, .high = kMillion}), kFree,
                   "3", "failed saves in a row before the run ends (exit 74)"),
          describe(duration("checkpoint.lock_wait", member(s, &C::lock_wait_s)), kFree, "\"6m\"",
                   "how long to wait for a run directory that is in use (then exit 69)")};
}

std::vector<ConfigKey> log_keys() {
  return {describe(amount("log.every", member(&Config::log, &LogConfig::every), /*allow_zero=*/false), kFree,
                   "\"10 steps\"", "time between lines of progress and metrics")};
}

std::vector<ConfigKey> guard_keys() {
  const auto s = &Config::guard;
  using C = GuardConfig;
  return {describe(duration("guard.watchdog", member(s, &C::watchdog_s)), kFree, "\"300s\"",
                   "time without progress in a step before the job ends with a report (exit 124); 0s = off"),
          describe(integer("guard.nonfinite_limit", member(s, &C::nonfinite_limit), {.low = 1, .high = kMillion}),
                   kFree, "5", "steps in a row with a non-finite gradient that are skipped before exit 76"),
          describe(integer("guard.replica_check", member(s, &C::replica_check), {.low = 0}), kFree, "100",
                   "steps between comparisons of replicated weights; 0 = off")};
}

std::vector<ConfigKey> build_keys() {
  std::vector<ConfigKey> keys;
  for (auto section : {run_keys, task_keys, data_keys, model_keys, attention_keys, parallel_keys, optim_keys, loss_keys,
                       train_keys, eval_keys, checkpoint_keys, log_keys, guard_keys})
    for (ConfigKey& key : section()) keys.push_back(std::move(key));
  return keys;
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> keys = build_keys();
  return keys;
}

const ConfigKey* find_config_key(std::string_view name) {
  const auto& keys = config_keys();
  const auto found = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& key) { return key.name == name; });
  return found == keys.end() ? nullptr : &*found;
}

std::vector<std::string> config_sections() {
  std::vector<std::string> names;
  for (const Section& section : kSections) names.emplace_back(section.name);
  return names;
}

std::string section_doc(std::string_view name) {
  for (const Section& section : kSections)
    if (name == section.name) return section.doc;
  return "";
}

bool is_planned_key(std::string_view name) {
  constexpr std::array<std::string_view, 14> planned{
      "attention.override", "attention.loss", "attention.scale", "attention.cap",    "attention.sink",
      "data.map",           "data.stage",     "data.jitter",     "data.block_group", "checkpoint.buffers",
      "log.tensorboard",    "log.trace",      "guard.spike",     "guard.rewinds"};
  return std::find(planned.begin(), planned.end(), name) != planned.end();
}

std::string key_suggestion(const std::string& name) {
  const size_t point = name.find('.');
  const std::string section = name.substr(0, point);
  const std::string last = point == std::string::npos ? name : name.substr(point + 1);
  std::vector<std::string> near_by, same_name, all;
  for (const ConfigKey& key : config_keys()) {
    all.push_back(key.name);
    if (key.section() == section) near_by.push_back(key.short_name());
    if (key.short_name() == last) same_name.push_back(key.name);
  }
  std::string near = nearest_name(last, near_by);
  if (near.empty() && !same_name.empty()) near = same_name.front();
  if (near.empty()) near = nearest_name(name, all);
  return near.empty() ? "" : "; did you mean '" + near + "'?";
}

}  // namespace farsight

// SPDX-License-Identifier: Apache-2.0
#include "trainer/verify.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <utility>

#include "kernels/allocator.h"
#include "kernels/error.h"
#include "kernels/parallel_for.h"
#include "parallel/inproc_comm.h"
#include "trainer/cost_model.h"
#include "trainer/forecast/forecast_cost.h"
#include "trainer/host_memory.h"
#include "trainer/plan_auto.h"
#include "trainer/plan_dataset.h"
#include "trainer/verify_corpus.h"
#include "trainer/verify_layouts.h"

namespace farsight {
namespace {

constexpr int64_t kByteVocabulary = 259;
constexpr int64_t kProgramBytes = 96LL << 20;
constexpr int64_t kManyParameters = 20'000'000;  // one direction each has to do

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// The data of the configuration, or random tokens.
struct VerifyData {
  DatasetFiles files;
  std::unique_ptr<RandomCorpus> random;
  int64_t vocab = 0;
};

std::string missing_file(const Config& config) {
  std::error_code ignored;
  for (const auto& file : config.data.train) {
    if (!std::filesystem::exists(file, ignored)) return file;
  }
  return {};
}

int64_t samples_in(const std::vector<CorpusDescriptor>& files, int64_t sequence) {
  int64_t samples = 0;
  for (const auto& file : files) {
    const auto* split = file.find("train");
    if (split == nullptr) fail(ErrorKind::data, "{} has no split 'train'", file.file);
    samples += std::max<int64_t>(0, split->tokens.size - 1) / sequence;
  }
  return samples;
}

VerifyData random_data(const Config& config, int64_t vocab, int64_t steps) {
  const int64_t sequence = config.data.sequence;
  VerifyData data;
  data.vocab = vocab;
  data.random = std::make_unique<RandomCorpus>(RandomCorpus::Shape{
      vocab, sequence * config.train.batch_samples * (steps + 1) + 1, std::max<int64_t>(2, sequence / 3)});
  data.files.train = {data.random->descriptor()};
  return data;
}

VerifyData open_data(const Config& config, int64_t steps, std::vector<std::string>& notes) {
  const std::string missing = missing_file(config);
  if (config.task.kind == TaskKind::forecast) {
    if (!missing.empty()) fail(ErrorKind::data, "{} does not exist: a forecaster is verified on its data", missing);
    VerifyData data;
    data.files = probe_dataset(config.data);
    return data;
  }
  if (!missing.empty()) {
    const int64_t vocab = config.model.vocab > 0 ? config.model.vocab : kByteVocabulary;
    notes.push_back(fmt::format("{} does not exist: random tokens of {} ids{}", missing, vocab,
                                config.model.vocab > 0 ? "" : ", as bytes have (model.vocab = \"auto\")"));
    return random_data(config, vocab, steps);
  }
  DataConfig only_train = config.data;
  only_train.valid.clear();
  only_train.test.clear();
  VerifyData data;
  data.files = probe_dataset(only_train);
  const std::vector<CorpusDescriptor> files = corpora(data.files.train);
  const int64_t ids = files.front().tokenizer.vocab_size;
  data.vocab = config.model.vocab > 0 ? config.model.vocab : ids;
  if (samples_in(files, config.data.sequence) > 0) return data;
  notes.push_back(fmt::format("the data hold no whole sample of {} tokens: random tokens of {} ids",
                              config.data.sequence, data.vocab));
  return random_data(config, data.vocab, steps);
}

class Verification {
 public:
  explicit Verification(const VerifyRequest& request) : request_(request) {}

  LayoutVerdict run() {
    const Config config = with_layout();
    report_.ranks = request_.ranks > 0 ? request_.ranks : least_ranks(config);
    report_.steps = request_.steps;
    report_.config = shrink(config, report_.ranks, request_.sequence, report_.notes);
    one_ = one_rank(report_.config);
    data_ = open_data(report_.config, request_.steps, report_.notes);
    layouts_ = verify_layouts(report_.config, report_.ranks, request_.only_own);
    plan_memory();
    request_.announce(report_);
    run_one_rank();
    check_model();
    for (const auto& layout : layouts_) report_.layouts.push_back(check_layout(layout));
    return std::move(report_);
  }

 private:
  // The configuration with numbers for extents that are "auto", as training chooses them where memory is no question.
  Config with_layout() {
    if (!has_automatic_layout(request_.config)) return request_.config;
    if (request_.ranks == 0) {
      fail(ErrorKind::usage, "parallel.* = \"auto\" depends on the number of ranks: say it with --ranks=N");
    }
    const int64_t known = std::max(request_.config.model.vocab, dataset_facts(request_.config).vocab);
    report_.notes.emplace_back("parallel.* = \"auto\" is what the planner chooses here with enough memory");
    return choose_layout(request_.config, request_.ranks, known > 0 ? known : kByteVocabulary, /*memory_limit=*/0,
                         default_cpu_calibration(), /*ranks_per_node=*/0);
  }

  // Model, gradients, optimizer state and activations of every rank; what is compared, weights and gradients of this
  // layout and of one rank; the largest tensor on its way there. Measured: within a tenth.
  int64_t memory_of(const Config& config, int64_t ranks) const {
    if (config.task.kind == TaskKind::forecast) {
      const ForecastCost cost = forecast_cost(config, channels());
      return kProgramBytes + ranks * forecast_memory(config, cost, resolve_layout(config, ranks)) +
             16 * cost.parameters;
    }
    const ModelSize size = model_size(config, data_.vocab);
    const int64_t largest = std::max(std::max(size.embedding, size.head),
                                     config.model.width * std::max(config.model.mlp_width, config.model.width));
    const int64_t compared = 4 * (4 * size.total() + (ranks + 2) * largest);
    const int64_t computed = ranks * memory_plan(config, resolve_layout(config, ranks), data_.vocab).total();
    return kProgramBytes + (computed + compared) / 10 * 11;
  }

  std::vector<Channel> channels() const { return series_files(data_.files.train).front().channels; }

  void plan_memory() {
    report_.parameters = report_.config.task.kind == TaskKind::forecast
                             ? forecast_cost(report_.config, channels()).parameters
                             : model_size(report_.config, data_.vocab).total();
    const int64_t automatic = report_.parameters > kManyParameters ? 1 : 3;
    report_.directions = request_.directions >= 0 ? request_.directions : automatic;
    report_.memory_limit = request_.memory > 0 ? request_.memory : available_host_memory();
    report_.memory = memory_of(one_, 1);
    for (auto& layout : layouts_) {
      if (!layout.refusal.empty()) continue;
      const int64_t needed = memory_of(layout.config, layout.ranks);
      if (report_.memory_limit > 0 && needed > report_.memory_limit && !layout.own) {
        layout.refusal = fmt::format("needs about {:.1f} GiB", gib(needed));
        continue;
      }
      report_.memory = std::max(report_.memory, needed);
    }
    if (report_.memory_limit > 0 && report_.memory > report_.memory_limit) {
      fail(ErrorKind::environment,
           "{} ranks of {:.1f} million parameters need about {:.2f} GiB in one process, this machine has {:.2f} GiB "
           "left; use --ranks with fewer ranks, --sequence with shorter samples, or a larger machine",
           report_.ranks, static_cast<double>(report_.parameters) / 1e6, gib(report_.memory),
           gib(report_.memory_limit));
    }
  }

  void run_one_rank() {
    request_.progress("one rank");
    const auto world = make_self_communicator();
    reference_ = run_layout(*world, one_, data_.files, request_.steps, {.weights = false, .report_replicas = true});
    for (size_t s = 0; s < reference_.losses.size(); ++s) {
      if (std::isfinite(reference_.losses[s]) && std::isfinite(reference_.norms[s])) continue;
      fail(ErrorKind::diverged,
           "on one rank step {} has loss {} and gradient norm {}: there is nothing to compare; look at optim.lr, "
           "optim.eps and the initial loss",
           s + 1, reference_.losses[s], reference_.norms[s]);
    }
    LayoutTrainer trainer(*world, one_, data_.files);
    rounding_ = gradient_rounding(trainer, reference_.gradients);
  }

  // Two samples are enough for it, and it takes a thousand forward passes.
  void check_model() {
    if (report_.directions == 0) return;
    const auto world = make_self_communicator();
    Config few = one_;
    few.train.batch_samples = std::min<int64_t>(2, one_.train.batch_samples);
    LayoutTrainer trainer(*world, few, data_.files);
    trainer.accumulate();
    NamedTensors gradients;
    for (const Parameter& p : trainer.model().parameters().parameters()) {
      const auto gradient = p.grad.span<float>();
      gradients[p.name].assign(gradient.begin(), gradient.end());
    }
    if (request_.spoil_gradients) request_.spoil_gradients(gradients);
    report_.gradients = check_gradients(trainer, gradients, report_.directions, request_.progress);
  }

  LayoutReport check_layout(const VerifyLayout& layout) {
    LayoutReport out{layout.name, layout.ranks, layout.own, layout.refusal, {}, {}, 0.0};
    if (!layout.refusal.empty()) return out;
    request_.progress("layout " + layout.name);
    const auto start = std::chrono::steady_clock::now();
    Config config = layout.config;
    if (request_.spoil_layout) request_.spoil_layout(layout.name, config);
    try {
      out.agreement = compare(run_on_threads(config, layout.ranks), reference_, rounding_);
      out.mismatch = disagreement(out.agreement);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::config || layout.own) throw;
      out.refusal = error.what();
    }
    host_allocator().release_cache();
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return out;
  }

  LayoutRun run_on_threads(const Config& config, int64_t ranks) {
    LayoutRun result;
    const int threads = std::max(1, thread_count() / static_cast<int>(ranks));
    run_in_process(
        static_cast<int>(ranks),
        [&](Communicator& world) {
          LayoutRun run =
              run_layout(world, config, data_.files, request_.steps, {.weights = false, .report_replicas = true});
          if (world.rank() == 0) result = std::move(run);
        },
        {}, threads);
    return result;
  }

  const VerifyRequest& request_;
  LayoutVerdict report_;
  Config one_;
  VerifyData data_;
  std::vector<VerifyLayout> layouts_;
  LayoutRun reference_;
  std::map<std::string, double> rounding_;  // of its gradients
};

}  // namespace

LayoutVerdict verify(const VerifyRequest& request) { return Verification(request).run(); }

std::string LayoutVerdict::verdict(const std::string& config_path) const {
  std::string text;
  const auto add = [&](const std::string& line) { text += (text.empty() ? "" : "\n") + line; };
  for (const auto& row : gradients.rows) {
    if (row.verdict() != Verdict::wrong) continue;
    add(
        fmt::format("the gradient of {} is wrong on one rank: along one direction it says {:.6e}, the loss says {:.6e} "
                    "(off by {:.1e}, allowed {:.0e})",
                    row.tensor, row.expected, row.measured, row.difference, kGradientTolerance));
  }
  for (const auto& layout : layouts) {
    if (!layout.mismatch.empty()) add(fmt::format("in layout '{}' {}", layout.name, layout.mismatch));
  }
  if (text.empty()) return text;
  add(
      fmt::format("This is a bug of farsight or faulty memory, not of {}: do not train with what is named above, and "
                  "report it with this output, the configuration and `farsight --version`",
                  config_path));
  return text;
}

}  // namespace farsight
